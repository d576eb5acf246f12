#include "driver/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver/interrupt.h"
#include "driver/progress.h"

extern char **environ;
enum { OUTPUT_MAX = 1 << 20, POLL_MS = 100 };

/* The environment with another $TMPDIR. */
static char **environment(Driver *d, const char *temp) {
    if (temp == NULL) return environ;
    VEC(char *) list = {0};
    for (char **e = environ; *e != NULL; e++)
        if (strncmp(*e, "TMPDIR=", 7) != 0) vec_push(&d->arena, &list, *e);
    vec_push(&d->arena, &list, driver_format(d, "TMPDIR=%s", temp));
    vec_push(&d->arena, &list, NULL);
    return list.v;
}

static void redirect(posix_spawn_file_actions_t *actions, int from, int to) {
    if (from >= 0) posix_spawn_file_actions_adddup2(actions, from, to);
    else posix_spawn_file_actions_addopen(actions, to, "/dev/null", to == STDIN_FILENO ? O_RDONLY : O_WRONLY, 0);
}

static int spawn(const char *const *argv, char **env, const int stream[3], pid_t *pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes; /* the signals that are held here must end the other program */
    sigset_t none;
    sigemptyset(&none);
    int reason = posix_spawn_file_actions_init(&actions);
    if (reason != 0) return reason;
    reason = posix_spawnattr_init(&attributes);
    if (reason == 0) {
        for (int to = 0; to < 3; to++) redirect(&actions, stream[to], to);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP); /* a group: the programs it starts end with it */
        reason = posix_spawnp(pid, argv[0], &actions, &attributes, (char *const *)(uintptr_t)argv, env);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return reason;
}

int process_start(Driver *d, const char *const *argv, const char *temp, const int stream[3], pid_t *pid) {
    char **env = environment(d, temp);
    interrupt_hold();
    int reason = spawn(argv, env, stream, pid);
    if (reason == 0) interrupt_child(*pid);
    interrupt_release();
    return reason;
}

int process_wait(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    interrupt_child_ended(pid);
    return status;
}

bool process_pipe(int ends[2]) {
    if (pipe(ends) != 0) return false;
    for (int i = 0; i < 2; i++) fcntl(ends[i], F_SETFD, FD_CLOEXEC);
    return true;
}

/* Reads until the other end closes; keeps the first OUTPUT_MAX bytes. */
static void collect(Driver *d, int from, Writer *output, const char *what) {
    Progress progress = progress_start(d);
    char part[4096];
    for (;;) {
        struct pollfd p = {.fd = from, .events = POLLIN};
        int ready = poll(&p, 1, POLL_MS);
        if (what != NULL) progress_step(&progress, what, -1);
        if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
        ssize_t n = read(from, part, sizeof part);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        if (output->n < OUTPUT_MAX) cw_text(output, part, (size_t)n);
    }
    progress_clear(d);
}

Process process_run(Driver *d, const char *const *argv, const char *what, const char *temp) {
    int ends[2];
    if (!process_pipe(ends)) return (Process){.output = strerror(errno)};
    pid_t pid;
    int reason = process_start(d, argv, temp, (const int[3]){-1, ends[1], ends[1]}, &pid);
    close(ends[1]);
    Writer output = {.arena = &d->arena};
    if (reason == 0) collect(d, ends[0], &output, what);
    close(ends[0]);
    if (reason != 0) return (Process){.output = driver_format(d, "%s", strerror(reason))};
    int status = process_wait(pid);
    return (Process){
        .started = true,
        .status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
        .output = cw_cstr(&output),
    };
}
