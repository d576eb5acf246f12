#include "program.h"

#include <string.h>

static int report(LatheModel *m, LatheStatus status) {
    lathe_print_diagnostics(m, stderr);
    lathe_model_free(m);
    return (int)status;
}

int model_program(LatheModel *m, int argc, char **argv) {
    const char *folder = ".", *name = argv[0];
    if (strrchr(name, '/') != NULL) name = strrchr(name, '/') + 1;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--out") == 0) folder = argv[i + 1];
        else if (i + 1 < argc && strcmp(argv[i], "--name") == 0) name = argv[i + 1];
        else return fprintf(stderr, "usage: %s [--out DIR] [--name NAME]\n", argv[0]), report(m, LATHE_ERROR_USAGE);
    }
    char onnx[1024], source[1024];
    snprintf(onnx, sizeof onnx, "%s/%s.onnx", folder, name);
    snprintf(source, sizeof source, "%s/%s.c", folder, name);
    LatheStatus status = lathe_export_onnx(m, onnx);
    if (status != LATHE_OK) return report(m, status);
    uint64_t parameters = lathe_parameter_count(m);
    LatheOptions options = lathe_options();
    options.output = source;
    status = lathe_compile(m, &options);
    if (status != LATHE_OK) return report(m, status);
    LatheStats s = lathe_stats(m);
    printf("%s: %llu parameters, %u kernels, arena %llu bytes\n%s\n%s\n", name, (unsigned long long)parameters, s.kernels, (unsigned long long)s.arena_bytes, onnx, source);
    return report(m, LATHE_OK);
}
