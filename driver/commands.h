/* The commands of `lathe`, one per file driver/cmd_NAME.c. */
#ifndef LATHE_DRIVER_COMMANDS_H
#define LATHE_DRIVER_COMMANDS_H
#include "driver/args.h"
#include "driver/progress.h"

extern const Command compile_command, run_command, verify_command, bench_command, info_command, opt_command, export_command, quantize_command, report_command, plan_command;
extern const Command *const driver_commands[]; /* all of them, ends with NULL */

#endif
