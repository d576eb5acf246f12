#include "driver/report.h"

#include "driver/chart.h"

static void tensors(Driver *d, Writer *w, const char *title, const LatheModel *m, uint32_t n, LatheTensorInfo (*get)(const LatheModel *m, uint32_t i)) {
    Table t = table_new(d, "name,type");
    for (uint32_t i = 0; i < n; i++) {
        LatheTensorInfo info = get(m, i);
        table_cell(&t, info.name);
        table_cell(&t, dims_text(d, &info));
    }
    html_heading(w, title);
    html_table(w, &t);
}

static void symbols(Driver *d, Writer *w, const LatheModel *m) {
    uint32_t n = lathe_symbol_count(m);
    if (n == 0) return;
    Table t = table_new(d, "dim,smallest,largest");
    for (uint32_t i = 0; i < n; i++) {
        LatheSymbolInfo s = lathe_symbol_info(m, i);
        table_cell(&t, s.name);
        table_row(&t, "%lld,%lld", (long long)s.lo, (long long)s.hi);
    }
    html_heading(w, "Symbolic dims");
    html_table(w, &t);
}

static void operators(Driver *d, Writer *w, LatheModel *m) {
    Table t = table_new(d, "operator,nodes");
    LatheOpCount c;
    for (uint32_t i = 0; lathe_op_count(m, i, &c); i++) {
        table_cell(&t, driver_format(d, "%s%s%s", c.domain, c.domain[0] != 0 ? "." : "", c.name));
        table_cell(&t, driver_format(d, "%u", c.count));
    }
    html_heading(w, "Operators after optimisation");
    html_table(w, &t);
}

static void memory(Driver *d, Writer *w, const LatheStats *s) {
    char arena[32], weights[32], bound[32];
    Bar bars[3] = {
        {"weights", (double)s->weight_bytes, -1, size_text(weights, sizeof weights, (double)s->weight_bytes)},
        {"arena", (double)s->arena_bytes, -1, size_text(arena, sizeof arena, (double)s->arena_bytes)},
        {"arena, lower bound", (double)s->arena_lower_bound, -1, size_text(bound, sizeof bound, (double)s->arena_lower_bound)},
    };
    BarGroup group = {"bytes", bars, 3};
    chart_svg(w, &(Chart){.title = "Memory", .note = "lower bound: the largest sum of buffers alive at one time", .group = &group, .n = 1});
    char flops[32], traffic[32];
    html_paragraph(w, driver_format(d, "%u kernels, %u steps, %s flop per run; the kernels read and write %s per run. Compiled in %.2f s.", s->kernels, s->steps,
                                    count_text(flops, sizeof flops, s->flops), size_text(traffic, sizeof traffic, s->traffic_bytes), s->seconds));
}

bool report_write(Driver *d, const char *path, const char *model_path, LatheModel *m) {
    Writer w = {.arena = &d->arena};
    LatheStats stats = lathe_stats(m);
    html_open(&w, driver_format(d, "lathe: %s", model_path));
    memory(d, &w, &stats);
    tensors(d, &w, "Inputs", m, lathe_input_count(m), lathe_input_info);
    tensors(d, &w, "Outputs", m, lathe_output_count(m), lathe_output_info);
    symbols(d, &w, m);
    operators(d, &w, m);
    html_close(&w);
    return driver_write_file(d, path, w.text, w.n);
}
