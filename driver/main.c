/* The `lathe` command: finds the subcommand and runs it. One file per command: driver/cmd_*.c. */
#include <stdlib.h>
#include <string.h>

#include "driver/commands.h"
#include "driver/interrupt.h"
#include "driver/memory.h"

static void help(FILE *to) {
    fprintf(to, "lathe %s: neural networks (ONNX) to C\n\nlathe COMMAND [options] MODEL.onnx|MODEL.lir\n\n", LATHE_VERSION);
    for (const Command *const *c = driver_commands; *c != NULL; c++) fprintf(to, "  %-9s %s\n", (*c)->name, (*c)->summary);
    fprintf(to, "\n`lathe COMMAND --help` lists a command's options.\n"
                "Exit codes: 0 ok, 1 the model is wrong or its results differ, 2 wrong usage, 3 a tool or a file failed.\n");
}

static Exit unknown_command(Driver *d, const char *name) {
    Texts names = {0};
    for (const Command *const *c = driver_commands; *c != NULL; c++) vec_push(&d->arena, &names, (*c)->name);
    vec_push(&d->arena, &names, NULL);
    const char *near = args_nearest(name, names.v);
    if (near != NULL) driver_error(d, "there is no command %s; did you mean %s?", name, near);
    else driver_error(d, "there is no command %s; `lathe --help` lists them", name);
    return BAD_USAGE;
}

static Exit run(Driver *d, int argc, char **argv) {
    if (argc < 2) {
        help(stderr);
        return BAD_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0) {
        printf("lathe %s\n", LATHE_VERSION);
        return DONE;
    }
    const Command *command = NULL;
    bool wants_help = strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0;
    if (wants_help && argc < 3) {
        help(stdout);
        return DONE;
    }
    if (wants_help) name = argv[2];
    for (const Command *const *c = driver_commands; *c != NULL; c++)
        if (strcmp((*c)->name, name) == 0) command = *c;
    if (command == NULL) return unknown_command(d, name);
    Request r = {.help = wants_help};
    if (!wants_help && !args_parse(d, command, argc - 1, argv + 1, &r)) return BAD_USAGE;
    Exit e = !r.help && r.memory != NULL ? memory_choose(d, &r) : DONE;
    if (e != DONE) return e;
    if (!r.help) return command->run(d, &r);
    args_help(command, stdout);
    return DONE;
}

int main(int argc, char **argv) {
    Driver d;
    driver_init(&d);
    interrupt_init();
    Exit e = run(&d, argc, argv);
    progress_clear(&d);
    if (fflush(stdout) != 0 || ferror(stdout) != 0) { /* a full disk must not look like success */
        driver_error(&d, "cannot write to standard output");
        if (e == DONE) e = BROKEN;
    }
    driver_free(&d);
    return (int)e;
}
