/* Reads IR text, verifies it, runs passes on it with the verifier after each, prints it: what the golden tests compare.
 *
 *     opt --run=infer_shapes,dce FILE.lir
 *
 * Every printed module is read back and printed again; a difference is a failure. Diagnostics go to stderr. */
#include <stdio.h>
#include <stdlib.h>

#include "ir/plan.h"
#include "lathe.h"
#include "passes/pass.h"

static char *read_file(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    if (f == NULL) return NULL;
    char *text = NULL;
    size_t cap = 0;
    for (*n = 0;;) {
        if (*n == cap) text = realloc(text, cap = cap ? cap * 2 : 65536);
        size_t got = fread(text + *n, 1, cap - *n, f);
        if (got == 0) break;
        *n += got;
    }
    fclose(f);
    return text;
}

/* The text of m, after having made sure that it reads back as itself. */
static bool print_checked(Module *m, Writer *w) {
    Context again;
    jmp_buf escape;
    context_init(&again);
    again.escape = &escape;
    bool same = false;
    module_print(m, w);
    if (setjmp(escape) == 0) {
        Module *copy = module_parse(&again, "printed.lir", w->text, w->n);
        Writer second = {.arena = &again.arena};
        if (copy != NULL) module_print(copy, &second);
        else diag_print(&again, &second);
        same = second.n == w->n && memcmp(second.text, w->text, w->n) == 0;
        if (!same) fprintf(stderr, "printed text reads back as something else:\n%s\nbecame\n%s", cw_cstr(w), cw_cstr(&second));
    }
    context_free(&again);
    return same;
}

static bool run_passes(Module *m, char *list) {
    for (char *name = strtok(list, ","); name != NULL; name = strtok(NULL, ",")) {
        const PassInfo *pass = pass_find(name);
        if (pass == NULL) {
            fprintf(stderr, "there is no pass %s\n", name);
            return false;
        }
        if (!pass_run(m, pass)) return false;
    }
    return true;
}

static bool work(Context *cx, const char *file, char *passes) {
    static const LatheOptions options = {.opt_level = 2, .verify_ir = true};
    size_t n = 0;
    char *text = read_file(file, &n);
    if (text == NULL) {
        fprintf(stderr, "%s: cannot be read\n", file);
        return false;
    }
    Module *m = module_parse(cx, file, text, n);
    free(text);
    if (m == NULL) return false;
    m->options = &options;
    if (!module_verify(m) || !run_passes(m, passes)) return false;
    Writer w = {.arena = &cx->arena};
    if (m->plan != NULL) plan_print(m, &w);
    else if (!print_checked(m, &w)) return false;
    fwrite(w.text, 1, w.n, stdout);
    return true;
}

int main(int argc, char **argv) {
    if (argc != 3 || strncmp(argv[1], "--run=", 6) != 0) {
        fprintf(stderr, "usage: %s --run=PASS,PASS FILE.lir\n", argv[0]);
        return 2;
    }
    Context cx;
    jmp_buf escape;
    context_init(&cx);
    cx.escape = &escape;
    volatile bool ok = false;
    if (setjmp(escape) == 0) ok = work(&cx, argv[2], argv[1] + 6);
    else fprintf(stderr, "%s\n", cx.internal_error);
    Writer w = {.arena = &cx.arena};
    diag_print(&cx, &w);
    fputs(cw_cstr(&w), stderr);
    context_free(&cx);
    return ok ? 0 : 1;
}
