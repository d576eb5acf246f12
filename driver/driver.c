#include "driver/driver.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "driver/interrupt.h"
#include "driver/progress.h"

static void out_of_memory(void *user) {
    (void)user;
    fputs("lathe: error: out of memory\n", stderr);
    interrupt_clean();
    exit(BROKEN);
}

void driver_init(Driver *d) {
    *d = (Driver){.stderr_is_terminal = isatty(STDERR_FILENO) != 0};
    context_init(&d->files);
    d->arena.fail = d->files.arena.fail = d->files.scratch.fail = out_of_memory;
}

void driver_free(Driver *d) {
    progress_clear(d);
    context_free(&d->files);
    arena_free(&d->arena);
}

static void message(Driver *d, const char *kind, const char *format, va_list args) {
    progress_clear(d);
    Writer w = {.arena = &d->arena};
    cw_vprintf(&w, format, args);
    fprintf(stderr, "lathe: %s: %s\n", kind, cw_cstr(&w));
}

void driver_error(Driver *d, const char *format, ...) {
    va_list args;
    va_start(args, format);
    message(d, "error", format, args);
    va_end(args);
}

void driver_note(Driver *d, const char *format, ...) {
    va_list args;
    va_start(args, format);
    message(d, "note", format, args);
    va_end(args);
}

void driver_model_notes(Driver *d, const LatheModel *m) {
    progress_clear(d);
    fflush(stdout);
    lathe_print_diagnostics(m, stderr);
}

Exit driver_model_failed(Driver *d, const LatheModel *m, LatheStatus status) {
    uint32_t n = lathe_error_count(m);
    if (!d->quiet) driver_model_notes(d, m);
    if (!d->quiet && n > 1) fprintf(stderr, "%u errors\n", n);
    if (n == 0) driver_error(d, "the compiler failed without a reason");
    switch (status) {
    case LATHE_OK: return DONE;
    case LATHE_ERROR_MODEL: return DIFFERS;
    case LATHE_ERROR_USAGE: return BAD_USAGE;
    case LATHE_ERROR_FILE: return BROKEN;
    }
    return BROKEN;
}

char *driver_format(Driver *d, const char *format, ...) {
    Writer w = {.arena = &d->arena};
    va_list args;
    va_start(args, format);
    cw_vprintf(&w, format, args);
    va_end(args);
    if (w.text == NULL) cw_text(&w, "", 0);
    return w.text;
}

double driver_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- files ------------------------------------------------------------------------------------------------------ */
char *driver_read_file(Driver *d, const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        driver_error(d, "cannot read %s: %s", path, strerror(errno));
        return NULL;
    }
    Writer w = {.arena = &d->arena};
    cw_text(&w, "", 0);
    static const size_t part = 1 << 16;
    char *buffer = arena_alloc(&d->arena, part);
    for (size_t got; (got = fread(buffer, 1, part, f)) != 0;) cw_text(&w, buffer, got);
    bool failed = ferror(f) != 0;
    int reason = errno;
    fclose(f);
    if (failed) {
        driver_error(d, "cannot read %s: %s", path, strerror(reason));
        return NULL;
    }
    *n = w.n;
    return w.text;
}

static bool write_to(const char *path, const void *data, size_t n, int *reason) {
    FILE *f = fopen(path, "wb");
    bool good = f != NULL && fwrite(data, 1, n, f) == n;
    *reason = errno;
    if (f != NULL && fclose(f) != 0 && good) {
        good = false;
        *reason = errno;
    }
    return good;
}

bool driver_write_file(Driver *d, const char *path, const void *data, size_t n) {
    struct stat st;
    int reason = 0;
    bool in_place = stat(path, &st) == 0 && !S_ISREG(st.st_mode); /* /dev/stdout, a pipe: nothing to rename over */
    const char *to = in_place ? path : driver_format(d, "%s.lathe-%ld", path, (long)getpid());
    uint32_t slot = in_place ? UINT32_MAX : interrupt_add(to);
    bool good = write_to(to, data, n, &reason);
    if (good && !in_place && rename(to, path) != 0) {
        good = false;
        reason = errno;
    }
    if (!good && !in_place) unlink(to);
    interrupt_drop(slot);
    if (good) return true;
    driver_error(d, "cannot write %s: %s", path, strerror(reason));
    return false;
}

const char *driver_temp_dir(Driver *d) {
    const char *base = getenv("TMPDIR");
    char *dir = driver_format(d, "%s/lathe-XXXXXX", base != NULL && base[0] != 0 ? base : "/tmp");
    interrupt_hold();
    bool made = mkdtemp(dir) != NULL;
    int reason = errno;
    if (made) interrupt_add(dir);
    interrupt_release();
    if (made) return dir;
    driver_error(d, "cannot make a temporary directory %s: %s", dir, strerror(reason));
    return NULL;
}

void driver_remove_dir(const char *path) {
    DIR *dir = opendir(path);
    if (dir == NULL) return;
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) unlinkat(dirfd(dir), e->d_name, 0);
    closedir(dir);
    rmdir(path);
    interrupt_forget(path);
}

bool driver_make_dirs(Driver *d, const char *path, bool report) {
    char *copy = driver_format(d, "%s", path);
    for (char *p = copy + 1;; p++) {
        if (*p != '/' && *p != 0) continue;
        char end = *p;
        *p = 0;
        struct stat st;
        if (mkdir(copy, 0777) != 0 && !(stat(copy, &st) == 0 && S_ISDIR(st.st_mode))) {
            if (report) driver_error(d, "cannot make the directory %s: %s", copy, strerror(errno == EEXIST ? ENOTDIR : errno));
            return false;
        }
        if (end == 0) return true;
        *p = end;
    }
}
