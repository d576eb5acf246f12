/* See quantize_report.h. The page stands alone: no scripts, no references. */
#include "driver/quantize_report.h"

#include <math.h>

#include "driver/chart.h"
#include "driver/text.h"

static void json_number(Writer *w, const char *name, double v, const char *end) {
    if (isfinite(v) && v >= 0) cw_printf(w, "\"%s\": %.6g%s", name, v, end);
    else cw_printf(w, "\"%s\": null%s", name, end);
}

#define BARS 64
#define PER_BAR (2048 / BARS)
#define WIDTH 192
#define HEIGHT 40

/* A histogram as a small picture, heights on a logarithmic scale. */
static void histogram(Writer *w, const uint64_t *bins) {
    double height[BARS], most = 0;
    for (int i = 0; i < BARS; i++) {
        uint64_t sum = 0;
        for (int k = 0; k < PER_BAR; k++) sum += bins[i * PER_BAR + k];
        height[i] = log1p((double)sum);
        most = fmax(most, height[i]);
    }
    cw_printf(w, "<svg width=\"%d\" height=\"%d\">", WIDTH, HEIGHT);
    for (int i = 0; i < BARS && most > 0; i++) {
        double h = height[i] / most * HEIGHT;
        cw_printf(w, "<rect x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.1f\"/>", i * WIDTH / BARS, HEIGHT - h, WIDTH / BARS - 1, h);
    }
    cw_printf(w, "</svg>");
}

static void html_row(Writer *w, const char *what, const char *before, const char *after) {
    cw_printf(w, "<tr><td>%s</td><td>%s</td><td>%s</td></tr>\n", what, before, after);
}

static const char *size_of(Driver *d, uint64_t n) { return n < 100000 ? driver_format(d, "%.2f kB", (double)n / 1e3) : driver_format(d, "%.2f MB", (double)n / 1e6); }
static const char *share(Driver *d, double f) { return f >= 0 ? driver_format(d, "%.2f %%", f * 100) : "–"; }
static const char *decibel(Driver *d, double v) { return isinf(v) ? "∞" : v > -1e9 ? driver_format(d, "%.1f dB", v) : "–"; }
static const char *milliseconds(Driver *d, double s) { return s >= 0 ? driver_format(d, "%.3g ms", s * 1e3) : "–"; }

/* Layers kept in floats, and what that costs and brings. */
static void tries(Driver *d, Writer *w, const QuantizeOutcome *o) {
    if (o->tries.n == 0) return;
    cw_printf(w, "<h2>Mixed precision</h2>\n<table><tr><th>layers in floats</th><th>the last of them</th><th>loss</th><th>accuracy</th><th>outputs</th><th>a run</th><th>file</th></tr>\n");
    for (uint32_t i = 0; i < o->tries.n; i++) {
        const QuantizeTry *t = &o->tries.v[i];
        cw_printf(w, "<tr><td>%u</td><td>", t->kept);
        xml_text(w, t->last != NULL ? t->last : "–");
        cw_printf(w, "</td><td>%.3f %%</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>\n", t->loss * 100, share(d, t->accuracy), decibel(d, t->sqnr), milliseconds(d, t->seconds), size_of(d, t->bytes));
    }
    cw_printf(w, "</table>\n<p>Layers are kept in the order of what quantizing each alone does to the outputs, the worst first. The last row was written.</p>\n");
}

static void json_tries(Writer *w, const QuantizeOutcome *o) {
    cw_printf(w, " ],\n \"mixed_precision\": [");
    for (uint32_t i = 0; i < o->tries.n; i++) {
        const QuantizeTry *t = &o->tries.v[i];
        cw_printf(w, "%s\n  {\"layers_in_float\": %u, \"last\": ", i != 0 ? "," : "", t->kept);
        if (t->last != NULL) json_string(w, t->last);
        else cw_printf(w, "null");
        cw_printf(w, ", \"loss\": %.6g, ", t->loss);
        json_number(w, "accuracy", t->accuracy, ", ");
        json_number(w, "sqnr_db", t->sqnr, ", ");
        json_number(w, "seconds", t->seconds, ", ");
        cw_printf(w, "\"bytes\": %llu}", (unsigned long long)t->bytes);
    }
}

static void page(Driver *d, Writer *w, const QuantizeOutcome *o, const LatheCalibration *c) {
    cw_printf(w, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Quantization</title>\n<style>body{font:15px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em;"
                 "color:#222}table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .8em;border-bottom:1px solid #ddd;text-align:right}td:first-child,th:first-child{text-align:left}"
                 "rect{fill:#36c}.kept{color:#888}</style></head><body>\n<h1>Quantization of ");
    xml_text(w, o->model);
    cw_printf(w, "</h1>\n<p>Scheme %s, compared on %u sets of data.</p>\n<table><tr><th></th><th>float</th><th>quantized</th></tr>\n", o->scheme, o->sets);
    html_row(w, "file", size_of(d, o->float_bytes), size_of(d, o->bytes));
    html_row(w, "a run, one thread", milliseconds(d, o->float_seconds), milliseconds(d, o->seconds));
    html_row(w, "signal to noise of the outputs", "", decibel(d, o->sqnr));
    if (o->agreement >= 0) html_row(w, "same first choice", "", share(d, o->agreement));
    if (o->accuracy >= 0) html_row(w, "accuracy", share(d, o->float_accuracy), share(d, o->accuracy));
    cw_printf(w, "</table>\n");
    tries(d, w, o);
    cw_printf(w, "<h2>Layers</h2>\n<table><tr><th>layer</th><th>operator</th><th>weights</th><th>signal to noise of weights</th><th>range of the input</th><th>its histogram (log)</th></tr>\n");
    for (uint32_t i = 0; i < lathe_quantized_layer_count(c); i++) {
        LatheQuantizedLayer l = lathe_quantized_layer(c, i);
        cw_printf(w, "<tr%s><td>", l.quantized ? "" : " class=\"kept\"");
        xml_text(w, l.name);
        cw_printf(w, "</td><td>%s</td><td>%s</td><td>%s</td>", l.op, size_of(d, l.bytes), l.quantized ? decibel(d, l.sqnr) : "float");
        if (l.histogram != NULL) {
            cw_printf(w, "<td>%.4g … %.4g</td><td>", l.low, l.high);
            histogram(w, l.histogram);
            cw_printf(w, "</td></tr>\n");
        } else {
            cw_printf(w, "<td></td><td></td></tr>\n");
        }
    }
    cw_printf(w, "</table>\n</body></html>\n");
}

static void json_page(Writer *w, const QuantizeOutcome *o, const LatheCalibration *c) {
    cw_printf(w, "{\"model\": ");
    json_string(w, o->model);
    cw_printf(w, ", \"output\": ");
    json_string(w, o->output);
    cw_printf(w, ", \"scheme\": \"%s\", \"sets\": %u,\n \"float_bytes\": %llu, \"bytes\": %llu, ", o->scheme, o->sets, (unsigned long long)o->float_bytes, (unsigned long long)o->bytes);
    json_number(w, "float_seconds", o->float_seconds, ", ");
    json_number(w, "seconds", o->seconds, ",\n ");
    json_number(w, "sqnr_db", o->sqnr, ", ");
    json_number(w, "agreement", o->agreement, ", ");
    json_number(w, "float_accuracy", o->float_accuracy, ", ");
    json_number(w, "accuracy", o->accuracy, ",\n \"layers\": [\n");
    for (uint32_t i = 0; i < lathe_quantized_layer_count(c); i++) {
        LatheQuantizedLayer l = lathe_quantized_layer(c, i);
        cw_printf(w, "  {\"name\": ");
        json_string(w, l.name);
        cw_printf(w, ", \"op\": \"%s\", \"quantized\": %s, ", l.op, l.quantized ? "true" : "false");
        json_number(w, "weight_sqnr_db", l.sqnr, ", ");
        cw_printf(w, "\"float_bytes\": %llu, \"bytes\": %llu", (unsigned long long)l.float_bytes, (unsigned long long)l.bytes);
        if (l.histogram != NULL) {
            cw_printf(w, ", \"low\": %.9g, \"high\": %.9g, \"histogram\": [", l.low, l.high);
            for (int k = 0; k < BARS; k++) {
                uint64_t sum = 0;
                for (int b = 0; b < PER_BAR; b++) sum += l.histogram[k * PER_BAR + b];
                cw_printf(w, "%s%llu", k != 0 ? ", " : "", (unsigned long long)sum);
            }
            cw_printf(w, "]");
        }
        cw_printf(w, "}%s\n", i + 1 < lathe_quantized_layer_count(c) ? "," : "");
    }
    json_tries(w, o);
    cw_printf(w, " ]}\n");
}

void quantize_print(const QuantizeOutcome *o, const LatheCalibration *c) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < lathe_quantized_layer_count(c); i++) n += lathe_quantized_layer(c, i).quantized;
    printf("%s: %u of %u layers quantized (%s), %.2f MB -> %.2f MB", o->output, n, lathe_quantized_layer_count(c), o->scheme, (double)o->float_bytes / 1e6, (double)o->bytes / 1e6);
    if (o->seconds >= 0) printf(", %.3g ms -> %.3g ms", o->float_seconds * 1e3, o->seconds * 1e3);
    if (o->sqnr > -1e9) printf(", outputs %.1f dB", o->sqnr);
    if (o->agreement >= 0) printf(", same first choice %.2f %%", o->agreement * 100);
    if (o->accuracy >= 0) printf(", accuracy %.2f %% -> %.2f %%", o->float_accuracy * 100, o->accuracy * 100);
    printf("\n");
}

bool quantize_report(Driver *d, const char *html, const char *json, const QuantizeOutcome *o, const LatheCalibration *c) {
    Writer h = {.arena = &d->arena}, j = {.arena = &d->arena};
    page(d, &h, o, c);
    json_page(&j, o, c);
    return driver_write_file(d, html, h.text, h.n) && driver_write_file(d, json, j.text, j.n);
}
