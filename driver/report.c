#include "driver/report.h"

#include "driver/chart.h"
#include "driver/plan_picture.h"

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

static void memory(Driver *d, Writer *w, LatheModel *m, const LatheStats *s) {
    char arena[32], weights[32], bound[32], flops[32], traffic[32];
    html_paragraph(w, driver_format(d, "%u kernels, %u steps, %s flop per run; the kernels read and write %s per run. Compiled in %.2f s.", s->kernels, s->steps,
                                    count_text(flops, sizeof flops, s->flops), size_text(traffic, sizeof traffic, s->traffic_bytes), s->seconds));
    html_heading(w, "Memory");
    Table t = table_new(d, "memory,size,bytes");
    table_row(&t, "weights,%s,%llu", size_text(weights, sizeof weights, (double)s->weight_bytes), (unsigned long long)s->weight_bytes);
    if (s->fast_bytes != 0) table_row(&t, "fast memory,%s,%llu", size_text(weights, sizeof weights, (double)s->fast_bytes), (unsigned long long)s->fast_bytes);
    table_row(&t, "arena,%s,%llu", size_text(arena, sizeof arena, (double)s->arena_bytes), (unsigned long long)s->arena_bytes);
    table_row(&t, "lower bound of the arena,%s,%llu", size_text(bound, sizeof bound, (double)s->arena_lower_bound), (unsigned long long)s->arena_lower_bound);
    table_row(&t, "arena / lower bound,%.3f,", s->arena_lower_bound != 0 ? (double)s->arena_bytes / (double)s->arena_lower_bound : 1.0);
    html_table(w, &t);
    html_paragraph(w, "The arena over time: a rectangle is a tensor (point at it for its name), the black line is the sum of the tensors alive, the dashed "
                      "line its maximum, below which no plan of this order of steps can stay.");
    plan_picture(d, w, m);
}

/* One row per step: what is fused in it, its operations and its bytes, and its part of all of them. */
static void steps(Driver *d, Writer *w, LatheModel *m) {
    Table t = table_new(d, "step,kernel,flop,% of flop,bytes,% of bytes,flop per byte,operators");
    LathePlanStep step;
    double flops = 0, bytes = 0;
    for (uint32_t i = 0; lathe_plan_step(m, i, &step); i++) {
        flops += step.flops;
        bytes += step.bytes;
    }
    for (uint32_t i = 0; lathe_plan_step(m, i, &step); i++) {
        char number[32];
        table_cell(&t, driver_format(d, "%u", step.time));
        table_cell(&t, driver_format(d, "%*s%s", (int)(2 * step.depth), "", step.kernel));
        table_cell(&t, step.flops > 0 ? driver_format(d, "%s", count_text(number, sizeof number, step.flops)) : "");
        table_cell(&t, step.flops > 0 ? driver_format(d, "%.1f", 100 * step.flops / flops) : "");
        table_cell(&t, step.bytes > 0 ? driver_format(d, "%s", size_text(number, sizeof number, step.bytes)) : "");
        table_cell(&t, step.bytes > 0 ? driver_format(d, "%.1f", 100 * step.bytes / bytes) : "");
        table_cell(&t, step.flops > 0 && step.bytes > 0 ? driver_format(d, "%.1f", step.flops / step.bytes) : "");
        table_cell(&t, step.what);
    }
    html_heading(w, "Steps");
    html_paragraph(w, "What was fused into one kernel stands in one row. Operations are those the model asks for (a multiply-add is 2), bytes those of the "
                      "kernel's tensors, weights included; loops count once.");
    html_table(w, &t);
}

bool report_write(Driver *d, const char *path, const char *model_path, LatheModel *m) {
    Writer w = {.arena = &d->arena};
    LatheStats stats = lathe_stats(m);
    html_open(&w, driver_format(d, "lathe: %s", model_path));
    memory(d, &w, m, &stats);
    tensors(d, &w, "Inputs", m, lathe_input_count(m), lathe_input_info);
    tensors(d, &w, "Outputs", m, lathe_output_count(m), lathe_output_info);
    symbols(d, &w, m);
    operators(d, &w, m);
    steps(d, &w, m);
    html_close(&w);
    return driver_write_file(d, path, w.text, w.n);
}
