/* Running other programs without a shell: arguments are passed as they are, nothing is interpreted.
 *
 *     Process r = process_run(d, (const char *[]){"clang", "--version", NULL}, NULL, NULL);
 *     if (!r.started) …            // r.output: why
 *     if (r.status != 0) …         // r.output: what it printed, stdout and stderr together */
#ifndef LATHE_DRIVER_PROCESS_H
#define LATHE_DRIVER_PROCESS_H
#include <sys/types.h>

#include "driver/driver.h"

typedef struct Process {
    bool started;
    int status;         /* exit code; 128 + signal number when a signal ended it */
    const char *output; /* at most the first MiB */
} Process;

/* argv[0] is searched in $PATH. what: text of the progress display, NULL: none. temp: its $TMPDIR, where what it leaves behind when it is
 * ended by force is removed with the rest; NULL: as here. */
Process process_run(Driver *d, const char *const *argv, const char *what, const char *temp);

/* The parts of it, for a program that is talked to. */
bool process_pipe(int ends[2]); /* closed in other programs but where process_start hands an end over */
/* stream: its standard input, output and error; negative: /dev/null. 0 or an error number. */
int process_start(Driver *d, const char *const *argv, const char *temp, const int stream[3], pid_t *pid);
int process_wait(pid_t pid); /* until it has ended; the status of waitpid */

#endif
