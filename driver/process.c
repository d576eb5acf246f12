#include "driver/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver/progress.h"

extern char **environ;
enum { OUTPUT_MAX = 1 << 20, POLL_MS = 100 };

static bool spawn(const char *const *argv, int output, pid_t *pid, int *reason) {
    posix_spawn_file_actions_t actions;
    *reason = posix_spawn_file_actions_init(&actions);
    if (*reason != 0) return false;
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
    *reason = posix_spawnp(pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
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

Process process_run(Driver *d, const char *const *argv, const char *what) {
    int ends[2], reason;
    if (pipe(ends) != 0) return (Process){.output = strerror(errno)};
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    pid_t pid;
    bool started = spawn(argv, ends[1], &pid, &reason);
    close(ends[1]);
    Writer output = {.arena = &d->arena};
    if (started) collect(d, ends[0], &output, what);
    close(ends[0]);
    if (!started) return (Process){.output = driver_format(d, "%s", strerror(reason))};
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    return (Process){
        .started = true,
        .status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
        .output = cw_cstr(&output),
    };
}
