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

static bool spawn(const char *const *argv, char **env, int output, pid_t *pid, int *reason) {
    posix_spawn_file_actions_t actions;
    *reason = posix_spawn_file_actions_init(&actions);
    if (*reason != 0) return false;
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
    posix_spawnattr_t attributes; /* the signals that are held here must end the other program */
    sigset_t none;
    sigemptyset(&none);
    *reason = posix_spawnattr_init(&attributes);
    if (*reason != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return false;
    }
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP); /* a group: the programs it starts end with it */
    *reason = posix_spawnp(pid, argv[0], &actions, &attributes, (char *const *)(uintptr_t)argv, env);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return *reason == 0;
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
    char **env = environment(d, temp);
    int ends[2], reason;
    if (pipe(ends) != 0) return (Process){.output = strerror(errno)};
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    pid_t pid;
    interrupt_hold();
    bool started = spawn(argv, env, ends[1], &pid, &reason);
    if (started) interrupt_child(pid);
    interrupt_release();
    close(ends[1]);
    Writer output = {.arena = &d->arena};
    if (started) collect(d, ends[0], &output, what);
    close(ends[0]);
    if (!started) return (Process){.output = driver_format(d, "%s", strerror(reason))};
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    interrupt_child(0);
    return (Process){
        .started = true,
        .status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
        .output = cw_cstr(&output),
    };
}
