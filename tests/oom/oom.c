/* Memory runs out at the n-th call of the allocator, for every n: compiling must fail cleanly each time, leave no output
 * behind, and in the end succeed. Run under AddressSanitizer it also shows that nothing leaks.
 *
 *     oom MODEL.lir
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "lathe.h"

static bool exists(const char *path) {
    return access(path, F_OK) == 0;
}

/* True when the model compiled. */
static bool compile(const char *model, const char *output) {
    LatheModel *m = lathe_model_new("model");
    if (m == NULL) return false;
    LatheOptions options = lathe_options();
    options.output = output;
    options.verify_ir = true;
    bool ok = lathe_import_ir(m, model) == LATHE_OK && lathe_compile(m, &options) == LATHE_OK;
    if (!ok && arena_fail_after != 0) lathe_print_diagnostics(m, stderr); /* failed, but not for memory */
    lathe_model_free(m);
    return ok;
}

int main(int argc, char **argv) {
    char dir[] = "/tmp/lathe-oom-XXXXXX", output[64], header[64];
    if (argc != 2 || mkdtemp(dir) == NULL) return 2;
    snprintf(output, sizeof output, "%s/model.c", dir);
    snprintf(header, sizeof header, "%s/model.h", dir);
    int failed = 0;
    uint64_t n = 0;
    for (bool reached = true; reached && failed == 0;) {
        arena_fail_after = ++n;
        bool ok = compile(argv[1], output);
        reached = arena_fail_after == 0; /* the n-th call happened, and failed */
        if (ok == reached) {
            fprintf(stderr, "allocation %llu: %s\n", (unsigned long long)n, ok ? "it failed, compiling did not" : "no allocation failed, compiling did");
            failed = 1;
        }
        if (!ok && (exists(output) || exists(header))) {
            fprintf(stderr, "allocation %llu: output was left behind\n", (unsigned long long)n);
            failed = 1;
        }
    }
    arena_fail_after = 0;
    printf("%llu allocations failed one by one\n", (unsigned long long)n - 1);
    remove(output);
    remove(header);
    if (remove(dir) != 0) {
        fprintf(stderr, "%s: more files than expected\n", dir);
        failed = 1;
    }
    return failed || n < 3;
}
