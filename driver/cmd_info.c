/* lathe info: what a model takes and gives, what it is made of, and whether lathe compiles it. */
#include "driver/commands.h"
#include "driver/program.h"
#include "driver/text.h"

static const Option *const tables[] = {compile_options, help_options, NULL};

static void print_tensors(Driver *d, const char *title, const LatheModel *m, uint32_t n, LatheTensorInfo (*get)(const LatheModel *m, uint32_t i)) {
    printf("%s\n", title);
    for (uint32_t i = 0; i < n; i++) {
        LatheTensorInfo info = get(m, i);
        printf("  %-24s %s\n", printable(d, info.name), dims_text(d, &info));
    }
}

static void print_symbols(Driver *d, const LatheModel *m) {
    uint32_t n = lathe_symbol_count(m);
    if (n != 0) printf("symbolic dims (fix or bound them with --dim)\n");
    for (uint32_t i = 0; i < n; i++) {
        LatheSymbolInfo s = lathe_symbol_info(m, i);
        if (s.hi < 0) printf("  %-24s no upper bound; %d is assumed\n", printable(d, s.name), LATHE_DEFAULT_DIM_BOUND);
        else printf("  %-24s %lld..%lld\n", printable(d, s.name), (long long)s.lo, (long long)s.hi);
    }
}

static void print_operators(LatheModel *m) {
    LatheOpCount c;
    printf("operators\n");
    for (uint32_t i = 0; lathe_op_count(m, i, &c); i++) printf("  %6u  %s%s%s\n", c.count, c.domain, c.domain[0] != 0 ? "." : "", c.name);
}

static void print_cost(const LatheModel *m) {
    LatheStats s = lathe_stats(m);
    char flops[32], traffic[32], arena[32], weights[32];
    printf("compiled\n  %u kernels in %u steps, %s flop per run, kernels move %s\n  arena %s (lower bound %.2fx), weights %s\n", s.kernels, s.steps,
           count_text(flops, sizeof flops, s.flops), size_text(traffic, sizeof traffic, s.traffic_bytes), size_text(arena, sizeof arena, (double)s.arena_bytes),
           s.arena_lower_bound != 0 ? (double)s.arena_bytes / (double)s.arena_lower_bound : 1.0, size_text(weights, sizeof weights, (double)s.weight_bytes));
}

static Exit info(Driver *d, const Request *r) {
    Exit e = DONE;
    LatheModel *m = model_open(d, r->files.v[0], &e);
    if (m == NULL) return e;
    LatheOptions o = request_options(d, r, NULL);
    LatheStatus status = lathe_set_dims(m, o.dims);
    if (status != LATHE_OK) {
        e = driver_model_failed(d, m, status);
        lathe_model_free(m);
        return e;
    }
    o.dims = NULL;
    char parameters[32];
    print_tensors(d, "inputs", m, lathe_input_count(m), lathe_input_info);
    print_symbols(d, m);
    print_operators(m);
    printf("parameters %s\n", count_text(parameters, sizeof parameters, (double)lathe_parameter_count(m)));
    status = lathe_compile(m, &o); /* without output: nothing is written */
    print_tensors(d, "outputs", m, lathe_output_count(m), lathe_output_info);
    if (status == LATHE_OK) {
        driver_model_notes(d, m);
        print_cost(m);
        printf("supported\n");
    } else {
        e = driver_model_failed(d, m, status);
        printf("not supported\n");
    }
    lathe_model_free(m);
    return e;
}

const Command info_command = {
    .name = "info", .files = "MODEL", .min_files = 1, .max_files = 1, .options = tables, .run = info,
    .summary = "describe a model: inputs, outputs, dims, operators, sizes, whether it compiles",
};
