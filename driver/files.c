#include "driver/files.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool file_exists(const char *path) {
    return access(path, F_OK) == 0;
}

/* Digits compare by value: set_2 before set_10. */
static int by_number(const void *a, const void *b) {
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    return strverscmp(x, y);
}

Texts directory_entries(Driver *d, const char *path, const char *prefix, const char *suffix) {
    Texts names = {0};
    DIR *dir = opendir(path);
    if (dir == NULL) return names;
    size_t p = strlen(prefix), s = strlen(suffix);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        size_t n = strlen(e->d_name);
        if (n >= p + s && memcmp(e->d_name, prefix, p) == 0 && memcmp(e->d_name + n - s, suffix, s) == 0)
            vec_push(&d->arena, &names, arena_strdup(&d->arena, e->d_name, n));
    }
    closedir(dir);
    if (names.n != 0) qsort(names.v, names.n, sizeof *names.v, by_number);
    return names;
}
