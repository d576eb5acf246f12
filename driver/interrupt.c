/* The handler uses async-signal-safe calls only: a directory is read by the system call itself, because opendir allocates. */
#include "driver/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SLOTS = 8, NO_SLOT = SLOTS };

static char slots[SLOTS][PATH_MAX];
static volatile sig_atomic_t used[SLOTS], child[INTERRUPT_CHILDREN]; /* 0: free */
static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

/* ---- the handler --------------------------------------------------------------------------------------------------- */
#ifdef SYS_getdents64
static void remove_entries(int dir) {
    _Alignas(8) char buffer[4096];
    for (long n; (n = syscall(SYS_getdents64, dir, buffer, sizeof buffer)) > 0;) {
        for (long at = 0; at < n;) { /* struct linux_dirent64: inode and offset, 8 bytes each, length, type, name */
            uint16_t length;
            memcpy(&length, buffer + at + 16, sizeof length);
            unlinkat(dir, buffer + at + 19, 0); /* fails for . and .. */
            at += length;
        }
    }
}
#else
static void remove_entries(int dir) { (void)dir; }
#endif

static void remove_path(const char *path) {
    if (unlink(path) == 0) return;
    for (int attempt = 0; attempt < 1000; attempt++) { /* programs that the child started may take a moment to end, on a busy machine a long one */
        int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (dir < 0) return;
        remove_entries(dir);
        close(dir);
        if (rmdir(path) == 0) return;
        poll(NULL, 0, 2);
    }
}

void interrupt_clean(void) {
    for (uint32_t i = 0; i < INTERRUPT_CHILDREN; i++) {
        if (child[i] <= 0) continue;
        kill(-(pid_t)child[i], SIGKILL); /* it writes into what is removed */
        while (waitpid((pid_t)child[i], NULL, 0) < 0 && errno == EINTR) {}
        child[i] = 0;
    }
    for (uint32_t i = 0; i < SLOTS; i++) {
        if (!used[i]) continue;
        remove_path(slots[i]);
        used[i] = 0;
    }
}

static void handle(int number) {
    interrupt_clean();
    raise(number); /* SA_RESETHAND: ends the process with this signal when the handler returns */
}

/* ---- keeping the list ---------------------------------------------------------------------------------------------- */
static void set_of(sigset_t *set) {
    sigemptyset(set);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaddset(set, signals[i]);
}

void interrupt_init(void) {
    struct sigaction act = {.sa_handler = handle, .sa_flags = SA_RESETHAND}, old;
    set_of(&act.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(signals[i], &act, NULL);
}

void interrupt_hold(void) {
    sigset_t set;
    set_of(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

void interrupt_release(void) {
    sigset_t set;
    set_of(&set);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

uint32_t interrupt_add(const char *path) {
    size_t n = strlen(path) + 1;
    for (uint32_t i = 0; i < SLOTS && n <= PATH_MAX; i++) {
        if (used[i]) continue;
        memcpy(slots[i], path, n);
        used[i] = 1; /* last: a handler in between sees no half a path */
        return i;
    }
    return NO_SLOT;
}

void interrupt_drop(uint32_t slot) {
    if (slot < SLOTS) used[slot] = 0;
}

void interrupt_forget(const char *path) {
    for (uint32_t i = 0; i < SLOTS; i++)
        if (used[i] && strcmp(slots[i], path) == 0) used[i] = 0;
}

static void replace_child(sig_atomic_t before, sig_atomic_t now) {
    for (uint32_t i = 0; i < INTERRUPT_CHILDREN; i++) {
        if (child[i] != before) continue;
        child[i] = now;
        return;
    }
}

void interrupt_child(pid_t pid) { replace_child(0, (sig_atomic_t)pid); }
void interrupt_child_ended(pid_t pid) { replace_child((sig_atomic_t)pid, 0); }
