/* What is removed when the command is interrupted (SIGINT, SIGTERM, SIGHUP) or runs out of memory: temporary files and directories, and
 * programs that it started. The only mutable globals of the command: a signal handler can reach nothing else.
 *
 *     uint32_t slot = interrupt_add(path);     a file or a directory of plain files
 *     …
 *     interrupt_drop(slot);                    it is removed, or has become a result */
#ifndef LATHE_DRIVER_INTERRUPT_H
#define LATHE_DRIVER_INTERRUPT_H
#include <stdint.h>
#include <sys/types.h>

void interrupt_init(void);      /* installs the handlers; signals that are ignored stay ignored */
uint32_t interrupt_add(const char *path);
void interrupt_drop(uint32_t slot);
void interrupt_forget(const char *path); /* the same by its path */
/* Programs that were started, leaders of process groups; interrupt_child_ended once they were waited for. */
enum { INTERRUPT_CHILDREN = 32 };
void interrupt_child(pid_t pid);
void interrupt_child_ended(pid_t pid);
void interrupt_clean(void);      /* removes everything now */

/* Between these no handler runs: for making a file and adding it. */
void interrupt_hold(void);
void interrupt_release(void);

#endif
