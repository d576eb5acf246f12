/* The list of all commands, in the order of `lathe --help`. */
#include "driver/commands.h"

const Command *const driver_commands[] = {
    &compile_command, &run_command, &verify_command, &bench_command, &info_command, &opt_command, &export_command, &quantize_command, &report_command, &plan_command, NULL,
};
