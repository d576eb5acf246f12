/* Files appear all at once or not at all: they are written into a fresh directory beside the output and renamed when
 * everything is there. A run that is killed leaves that directory, never half a file under the output's name. */
#include "api/model.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *join(LatheModel *m, const char *dir, const char *name) {
    Writer w = {.arena = &m->cx.arena};
    cw_printf(&w, "%s/%s", dir, name);
    return cw_cstr(&w);
}

static const char *directory_of(LatheModel *m, const char *path) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL) return ".";
    return slash == path ? "/" : arena_strdup(&m->cx.arena, path, (size_t)(slash - path));
}

static bool fail(LatheModel *m, const char *output, const char *reason) {
    diag(&m->cx, SEV_ERROR, (Loc){0}, "cannot write %s: %s", output, reason);
    return false;
}

bool staging_open(LatheModel *m, const char *output, Staging *s) {
    struct stat st;
    *s = (Staging){0};
    if (stat(output, &st) == 0 && S_ISDIR(st.st_mode)) return fail(m, output, "it is a directory");
    if (access(output, F_OK) == 0 && access(output, W_OK) != 0) return fail(m, output, strerror(errno));
    const char *slash = strrchr(output, '/');
    if ((slash != NULL ? slash + 1 : output)[0] == 0) return fail(m, output, "it names no file");
    char *dir = (char *)(uintptr_t)join(m, directory_of(m, output), ".lathe-XXXXXX");
    if (mkdtemp(dir) == NULL) return fail(m, output, strerror(errno));
    s->dir = dir;
    s->c_path = join(m, dir, slash != NULL ? slash + 1 : output);
    return true;
}

bool staging_publish(LatheModel *m, Staging *s, const char *output) {
    DIR *dir = opendir(s->dir);
    if (dir == NULL) return fail(m, output, strerror(errno));
    bool good = true;
    for (struct dirent *e; good && (e = readdir(dir)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        const char *target = join(m, directory_of(m, output), e->d_name);
        good = rename(join(m, s->dir, e->d_name), target) == 0 || fail(m, target, strerror(errno));
    }
    closedir(dir);
    return good;
}

void staging_discard(Staging *s) {
    DIR *dir = s->dir != NULL ? opendir(s->dir) : NULL;
    if (dir == NULL) return;
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) unlinkat(dirfd(dir), e->d_name, 0);
    closedir(dir);
    rmdir(s->dir);
    s->dir = NULL;
}
