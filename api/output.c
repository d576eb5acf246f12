/* Files appear all at once or not at all: they are written into a fresh directory beside the output and renamed when
 * everything is there. A program that a signal ends can
 * remove that directory (lathe_on_staging); one that is killed leaves it, but never half a file under the output's name. */
#include "api/model.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STAGED_MAX = 8 }; /* the C file, its header, weights */

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

static void hold(const LatheStagingHooks *hooks, bool begins) {
    if (hooks->hold != NULL) hooks->hold(hooks->user, begins);
}

static void changed(const LatheStagingHooks *hooks, const char *dir, bool there) {
    if (hooks->changed != NULL) hooks->changed(hooks->user, dir, there);
}

void lathe_on_staging(LatheModel *m, const LatheStagingHooks *hooks) { m->staging_hooks = *hooks; }

bool staging_open(LatheModel *m, const char *output, Staging *s) {
    struct stat st;
    *s = (Staging){0};
    bool exists = stat(output, &st) == 0;
    if (exists && S_ISDIR(st.st_mode)) return fail(m, output, "it is a directory");
    if (exists && !S_ISREG(st.st_mode)) return fail(m, output, "it is not a regular file"); /* a rename would replace the device */
    if (exists && access(output, W_OK) != 0) return fail(m, output, strerror(errno));
    const char *slash = strrchr(output, '/');
    if ((slash != NULL ? slash + 1 : output)[0] == 0) return fail(m, output, "it names no file");
    char *dir = (char *)(uintptr_t)join(m, directory_of(m, output), ".lathe-XXXXXX");
    const char *c_path = join(m, dir, slash != NULL ? slash + 1 : output);
    s->hooks = &m->staging_hooks;
    hold(s->hooks, true);
    bool made = mkdtemp(dir) != NULL;
    int reason = errno;
    if (made) changed(s->hooks, dir, true);
    hold(s->hooks, false);
    if (!made) return fail(m, output, strerror(reason));
    memcpy((char *)(uintptr_t)c_path, dir, strlen(dir)); /* its name is known now */
    s->dir = dir;
    s->c_path = c_path;
    return true;
}

/* The files of the staging directory; allocates nothing while the directory is open. */
static uint32_t staged_names(const Staging *s, char name[STAGED_MAX][NAME_MAX + 1]) {
    DIR *dir = opendir(s->dir);
    uint32_t n = 0;
    if (dir == NULL) return 0;
    for (struct dirent *e; n < STAGED_MAX && (e = readdir(dir)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) snprintf(name[n++], NAME_MAX + 1, "%s", e->d_name);
    closedir(dir);
    return n;
}

/* What would make a rename fail half-way is looked for first; if one fails all the same, those before it are undone. */
bool staging_publish(LatheModel *m, Staging *s, const char *output) {
    char name[STAGED_MAX][NAME_MAX + 1];
    const char *from[STAGED_MAX], *to[STAGED_MAX];
    uint32_t n = staged_names(s, name), moved = 0;
    for (uint32_t i = 0; i < n; i++) { /* memory may run out here, but no longer once files appear */
        from[i] = join(m, s->dir, name[i]);
        to[i] = join(m, directory_of(m, output), name[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct stat st;
        if (stat(to[i], &st) == 0 && !S_ISREG(st.st_mode)) return fail(m, to[i], "it is not a regular file");
    }
    hold(s->hooks, true);
    while (moved < n && rename(from[moved], to[moved]) == 0) moved++;
    int reason = errno;
    for (uint32_t i = 0; moved < n && i < moved; i++) unlink(to[i]);
    hold(s->hooks, false);
    if (moved == n) return true;
    return fail(m, to[moved], strerror(reason));
}

void staging_discard(Staging *s) {
    DIR *dir = s->dir != NULL ? opendir(s->dir) : NULL;
    if (dir == NULL) return;
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) unlinkat(dirfd(dir), e->d_name, 0);
    closedir(dir);
    rmdir(s->dir);
    changed(s->hooks, s->dir, false);
    s->dir = NULL;
}
