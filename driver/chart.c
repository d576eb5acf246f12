#include "driver/chart.h"

#include <ctype.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

void xml_text(Writer *w, const char *text) {
    for (; *text != 0; text++) {
        switch (*text) {
        case '<': cw_text(w, "&lt;", 4); break;
        case '>': cw_text(w, "&gt;", 4); break;
        case '&': cw_text(w, "&amp;", 5); break;
        case '"': cw_text(w, "&quot;", 6); break;
        default: cw_text(w, (unsigned char)*text < ' ' || *text == 127 ? "?" : text, 1); break;
        }
    }
}

/* ---- bar charts ------------------------------------------------------------------------------------------------- */
static const double page_width = 820, label_width = 190, bar_max = 400, bar_height = 22, bar_gap = 6, group_gap = 18, title_height = 46;
static const char *const colours[] = {"#8da3b8", "#e07a3f", "#3d7ea6", "#5b9a5b", "#a56cc1", "#c9a227", "#7b6d5d", "#c2556e"};

/* Equal labels have equal colours: the position of the label's first appearance decides. */
static const char *colour(const Chart *c, const char *label) {
    uint32_t n = 0;
    for (uint32_t g = 0; g < c->n; g++) {
        for (uint32_t i = 0; i < c->group[g].n; i++) {
            const char *other = c->group[g].bar[i].label;
            if (strcmp(other, label) == 0) return colours[n % (sizeof colours / sizeof *colours)];
            bool seen = false;
            for (uint32_t j = 0; j < i; j++) seen = seen || strcmp(c->group[g].bar[j].label, other) == 0;
            if (!seen) n++;
        }
    }
    return colours[0];
}

static double largest(const Chart *c) {
    double most = 0;
    for (uint32_t g = 0; g < c->n; g++)
        for (uint32_t i = 0; i < c->group[g].n; i++)
            if (c->group[g].bar[i].value > most) most = c->group[g].bar[i].value;
    return most > 0 ? most : 1;
}

static void text_at(Writer *w, double x, double y, const char *style, const char *text) {
    cw_printf(w, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, style);
    xml_text(w, text);
    cw_printf(w, "</text>\n");
}

static void draw_bar(Writer *w, const Chart *c, const Bar *b, double y, double scale) {
    double length = b->value * scale;
    text_at(w, label_width - 8, y + bar_height * 0.7, "text-anchor=\"end\" font-size=\"13\" fill=\"#333\"", b->label);
    cw_printf(w, "<rect x=\"%.0f\" y=\"%.1f\" width=\"%.1f\" height=\"%.0f\" rx=\"2\" fill=\"%s\"><title>", label_width, y, length > 1 ? length : 1, bar_height,
              colour(c, b->label));
    xml_text(w, b->label);
    cw_printf(w, ": ");
    xml_text(w, b->text);
    cw_printf(w, "</title></rect>\n");
    if (b->low >= 0)
        cw_printf(w, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#222\" stroke-width=\"1.5\"/>\n", label_width + b->low * scale,
                  label_width + b->low * scale, y + 4, y + bar_height - 4);
    text_at(w, label_width + length + 8, y + bar_height * 0.7, "font-size=\"12\" fill=\"#555\"", b->text);
}

void chart_svg(Writer *w, const Chart *c) {
    double height = title_height + (c->note != NULL ? 20 : 0), scale = bar_max / largest(c), y = title_height;
    for (uint32_t g = 0; g < c->n; g++) height += group_gap + 20 + c->group[g].n * (bar_height + bar_gap);
    cw_printf(w, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\" font-family=\"sans-serif\" role=\"img\">\n", page_width,
              height, page_width, height);
    cw_printf(w, "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n");
    text_at(w, 16, 28, "font-size=\"17\" font-weight=\"bold\" fill=\"#222\"", c->title);
    for (uint32_t g = 0; g < c->n; g++) {
        text_at(w, 16, y + 14, "font-size=\"13\" font-weight=\"bold\" fill=\"#444\"", c->group[g].title);
        y += 20;
        for (uint32_t i = 0; i < c->group[g].n; i++, y += bar_height + bar_gap) draw_bar(w, c, &c->group[g].bar[i], y, scale);
        y += group_gap;
    }
    if (c->note != NULL) text_at(w, 16, y + 8, "font-size=\"11\" fill=\"#777\"", c->note);
    cw_printf(w, "</svg>\n");
}

/* ---- lines ------------------------------------------------------------------------------------------------------ */
typedef struct Axis { double lo, hi, from, to; } Axis; /* values, positions on the page */

static double position(const Axis *a, double value) { return a->from + (log(value) - log(a->lo)) / (log(a->hi) - log(a->lo)) * (a->to - a->from); }

static void extend(Axis *a, double value) {
    if (value < a->lo) a->lo = value;
    if (value > a->hi) a->hi = value;
}

static void ticks(Writer *w, const Axis *x, const Axis *y) {
    char text[32];
    for (double v = exp2(ceil(log2(x->lo) - 1e-9)); v <= x->hi * 1.0001; v *= 2) {
        snprintf(text, sizeof text, "%.0f", v);
        text_at(w, position(x, v), y->from + 18, "text-anchor=\"middle\" font-size=\"12\" fill=\"#555\"", text);
        cw_printf(w, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#eee\"/>\n", position(x, v), position(x, v), y->from, y->to);
    }
    static const double steps[] = {1, 2, 5};
    for (double power = pow(10, floor(log10(y->lo))); power <= y->hi; power *= 10) {
        for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
            double v = power * steps[i];
            if (v < y->lo || v > y->hi) continue;
            snprintf(text, sizeof text, "%.4g", v);
            text_at(w, x->from - 8, position(y, v) + 4, "text-anchor=\"end\" font-size=\"12\" fill=\"#555\"", text);
            cw_printf(w, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#eee\"/>\n", x->from, x->to, position(y, v), position(y, v));
        }
    }
}

void lines_svg(Writer *w, const LineChart *c) {
    Axis x = {DBL_MAX, 0, 90, 780}, y = {DBL_MAX, 0, 360, 70};
    for (uint32_t s = 0; s < c->n; s++)
        for (uint32_t i = 0; i < c->series[s].n; i++) extend(&x, c->series[s].x[i]), extend(&y, c->series[s].y[i]);
    if (x.hi <= x.lo) x.hi = x.lo * 2; /* one point */
    y.lo *= 0.9;
    y.hi *= 1.1;
    cw_printf(w, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 820 410\" width=\"820\" height=\"410\" font-family=\"sans-serif\" role=\"img\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n");
    text_at(w, 16, 28, "font-size=\"17\" font-weight=\"bold\" fill=\"#222\"", c->title);
    ticks(w, &x, &y);
    text_at(w, (x.from + x.to) / 2, y.from + 38, "text-anchor=\"middle\" font-size=\"13\" fill=\"#333\"", c->x_name);
    text_at(w, 16, y.to - 12, "font-size=\"13\" fill=\"#333\"", c->y_name);
    for (uint32_t s = 0; s < c->n; s++) {
        const char *paint = colours[(s + 1) % (sizeof colours / sizeof *colours)];
        cw_printf(w, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", paint);
        for (uint32_t i = 0; i < c->series[s].n; i++) cw_printf(w, "%.1f,%.1f ", position(&x, c->series[s].x[i]), position(&y, c->series[s].y[i]));
        cw_printf(w, "\"/>\n");
        for (uint32_t i = 0; i < c->series[s].n; i++)
            cw_printf(w, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"><title>%.0f: %.5g</title></circle>\n", position(&x, c->series[s].x[i]), position(&y, c->series[s].y[i]), paint,
                      c->series[s].x[i], c->series[s].y[i]);
        cw_printf(w, "<rect x=\"%.0f\" y=\"44\" width=\"12\" height=\"12\" fill=\"%s\"/>\n", 240.0 + 120 * s, paint);
        text_at(w, 258.0 + 120 * s, 55, "font-size=\"13\" fill=\"#333\"", c->series[s].label);
    }
    cw_printf(w, "</svg>\n");
}

/* ---- pages ------------------------------------------------------------------------------------------------------ */
void html_open(Writer *w, const char *title) {
    cw_printf(w, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>");
    xml_text(w, title);
    cw_printf(w, "</title>\n<style>\n"
                 "body { font: 15px/1.5 sans-serif; color: #222; max-width: 1040px; margin: 2em auto; padding: 0 1em; }\n"
                 "table { border-collapse: collapse; margin: 1em 0; }\n"
                 "th, td { padding: .3em .7em; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap; }\n"
                 "td:last-child { white-space: normal; }\n"
                 "td.n { text-align: right; font-variant-numeric: tabular-nums; }\n"
                 "svg { max-width: 100%%; height: auto; border: 1px solid #eee; }\n"
                 "</style></head><body>\n<h1>");
    xml_text(w, title);
    cw_printf(w, "</h1>\n");
}

static void element(Writer *w, const char *name, const char *text) {
    cw_printf(w, "<%s>", name);
    xml_text(w, text);
    cw_printf(w, "</%s>\n", name);
}

void html_heading(Writer *w, const char *text) { element(w, "h2", text); }
void html_paragraph(Writer *w, const char *text) { element(w, "p", text); }

void html_table(Writer *w, const Table *t) {
    cw_printf(w, "<table>\n");
    for (uint32_t i = 0; i < t->cells.n; i++) {
        const char *cell = t->cells.v[i];
        bool head = i < t->n_column, number = isdigit((unsigned char)cell[0]);
        if (i % t->n_column == 0) cw_printf(w, "<tr>");
        cw_printf(w, head ? "<th>" : number ? "<td class=\"n\">" : "<td>");
        xml_text(w, cell);
        cw_printf(w, head ? "</th>" : "</td>");
        if ((i + 1) % t->n_column == 0) cw_printf(w, "</tr>\n");
    }
    cw_printf(w, "</table>\n");
}

void html_close(Writer *w) {
    cw_printf(w, "</body></html>\n");
}
