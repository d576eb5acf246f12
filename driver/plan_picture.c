#include "driver/plan_picture.h"

#include "driver/chart.h"
#include "driver/text.h"

static const double left = 84, top = 12, width = 900, height = 440, below = 44;
static const char *const colours[] = {"#9ec1de", "#f0b48c", "#a8cfa0", "#d3b3e0", "#ead48a", "#c9b9a6", "#e3a6b2", "#8fc9c4"};

typedef struct Picture {
    Writer *w;
    double times, bytes; /* extents of the axes */
    VEC(LathePlanBuffer) buffers;
} Picture;

static double x_of(const Picture *p, double time) { return left + width * time / p->times; }
static double y_of(const Picture *p, double bytes) { return top + height * (1 - bytes / p->bytes); }

static void draw_axes(const Picture *p) {
    char size[32];
    for (int i = 0; i <= 4; i++) {
        double bytes = p->bytes * i / 4, y = y_of(p, bytes);
        cw_printf(p->w, "<line class=\"grid\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>", left, left + width, y, y);
        cw_printf(p->w, "<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", left - 8, y + 4, size_text(size, sizeof size, bytes));
    }
    double step = 1;
    while (p->times / step > 12) step *= step < 1.5 || p->times / step > 24 ? 5 : 2;
    for (double t = 0; t < p->times; t += step)
        cw_printf(p->w, "<text x=\"%.1f\" y=\"%.0f\" text-anchor=\"middle\">%.0f</text>\n", x_of(p, t + 0.5), top + height + 18, t);
    cw_printf(p->w, "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">step</text>\n", left + width / 2, top + height + 36);
}

static void draw_buffer(const Picture *p, uint32_t i) {
    const LathePlanBuffer *b = &p->buffers.v[i];
    char size[32];
    double x = x_of(p, b->first), y = y_of(p, (double)(b->offset + b->bytes));
    cw_printf(p->w, "<rect class=\"b\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill=\"%s\"><title>", x, y, x_of(p, b->last + 1.0) - x,
              y_of(p, (double)b->offset) - y, colours[i % (sizeof colours / sizeof *colours)]);
    xml_text(p->w, b->name);
    cw_printf(p->w, "\n");
    xml_text(p->w, b->type);
    cw_printf(p->w, "\n%s at offset %llu\nsteps %u to %u</title></rect>\n", size_text(size, sizeof size, (double)b->bytes), (unsigned long long)b->offset, b->first, b->last);
}

/* The sum of all that is alive, a staircase; its highest stair is the lower bound of the arena. */
static void draw_alive(Driver *d, const Picture *p) {
    uint32_t n = (uint32_t)p->times;
    double *change = ARENA_ARRAY(&d->arena, double, n + 1), alive = 0;
    for (uint32_t i = 0; i < p->buffers.n; i++) {
        change[p->buffers.v[i].first] += (double)p->buffers.v[i].bytes;
        change[p->buffers.v[i].last + 1] -= (double)p->buffers.v[i].bytes;
    }
    cw_printf(p->w, "<polyline class=\"alive\" points=\"");
    for (uint32_t t = 0; t < n; t++) {
        alive += change[t];
        cw_printf(p->w, "%.2f,%.2f %.2f,%.2f ", x_of(p, t), y_of(p, alive), x_of(p, t + 1.0), y_of(p, alive));
    }
    cw_printf(p->w, "\"/>\n");
}

void plan_picture(Driver *d, Writer *w, LatheModel *m) {
    Picture p = {.w = w};
    LathePlanBuffer b;
    for (uint32_t i = 0; lathe_plan_buffer(m, i, &b); i++) {
        if (b.bytes == 0) continue;
        vec_push(&d->arena, &p.buffers, b);
        if (b.last + 1.0 > p.times) p.times = b.last + 1.0;
    }
    LatheStats stats = lathe_stats(m);
    p.bytes = (double)(stats.fast_bytes + stats.arena_bytes);
    if (p.buffers.n == 0 || p.bytes <= 0) {
        html_paragraph(w, "Nothing is kept between kernels: the arena is empty.");
        return;
    }
    cw_printf(w, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\" font-family=\"sans-serif\" font-size=\"12\" role=\"img\">\n"
                 "<style>.b { stroke: #555; stroke-width: .6 } .b:hover { fill: #e0482f } .grid { stroke: #e4e4e4 } .fast { stroke: #1a5; stroke-width: 2 } .bound { stroke: #c0392b; stroke-dasharray: 6 4 }\n"
                 ".alive { fill: none; stroke: #222; stroke-width: 1.5; pointer-events: none } text { fill: #444 }</style>\n",
              left + width + 12, top + height + below, left + width + 12, top + height + below);
    draw_axes(&p);
    for (uint32_t i = 0; i < p.buffers.n; i++) draw_buffer(&p, i);
    draw_alive(d, &p);
    double bound = y_of(&p, (double)(stats.fast_bytes + stats.arena_lower_bound)), border = y_of(&p, (double)stats.fast_bytes);
    cw_printf(w, "<line class=\"bound\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", left, left + width, bound, bound);
    if (stats.fast_bytes != 0) /* below: the fast memory */
        cw_printf(w, "<line class=\"fast\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>\n<text x=\"%.0f\" y=\"%.1f\">fast memory</text>\n", left, left + width, border, border,
                  left + 4, border + 13);
    cw_printf(w, "</svg>\n");
}
