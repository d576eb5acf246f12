#include "program.h"

#include <string.h>

typedef struct Place { const char *folder, *name; bool good; } Place;

static Place place_of(int argc, char **argv) {
    Place p = {.folder = ".", .name = argv[0], .good = true};
    if (strrchr(p.name, '/') != NULL) p.name = strrchr(p.name, '/') + 1;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--out") == 0) p.folder = argv[i + 1];
        else if (i + 1 < argc && strcmp(argv[i], "--name") == 0) p.name = argv[i + 1];
        else p.good = false;
    }
    if (!p.good) fprintf(stderr, "usage: %s [--out DIR] [--name NAME]\n", argv[0]);
    return p;
}

static int report(LatheModel *m, LatheStatus status) {
    lathe_print_diagnostics(m, stderr);
    lathe_model_free(m);
    return (int)status;
}

static LatheStatus export_network(LatheModel *m, const Place *p) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.onnx", p->folder, p->name);
    LatheStatus status = lathe_export_onnx(m, path);
    if (status == LATHE_OK) printf("%s\n", path);
    return status;
}

static LatheStatus compile(LatheModel *m, const Place *p) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.c", p->folder, p->name);
    uint64_t parameters = lathe_parameter_count(m);
    LatheOptions options = lathe_options();
    options.output = path;
    LatheStatus status = lathe_compile(m, &options);
    LatheStats s = lathe_stats(m);
    if (status == LATHE_OK)
        printf("%s\n%s: %llu parameters, %u kernels, arena %llu bytes\n", path, p->name, (unsigned long long)parameters, s.kernels, (unsigned long long)s.arena_bytes);
    return status;
}

int model_program(LatheModel *m, int argc, char **argv) {
    Place p = place_of(argc, argv);
    if (!p.good) return report(m, LATHE_ERROR_USAGE);
    LatheStatus status = export_network(m, &p);
    return report(m, status == LATHE_OK ? compile(m, &p) : status);
}

int training_program(const char *name, BuildModel *build, int argc, char **argv) {
    Place p = place_of(argc, argv);
    if (!p.good) return LATHE_ERROR_USAGE;
    LatheModel *m = lathe_model_new(name);
    build(m, false);
    int code = report(m, export_network(m, &p));
    if (code != 0) return code;
    m = lathe_model_new(name);
    build(m, true);
    return report(m, compile(m, &p));
}
