/* Bar charts as SVG, and self-contained HTML pages that hold charts and tables. All text is escaped here. */
#ifndef LATHE_DRIVER_CHART_H
#define LATHE_DRIVER_CHART_H
#include "driver/text.h"

typedef struct Bar {
    const char *label;  /* the series: bars of one label have one colour in every group */
    double value;       /* >= 0 */
    double low;         /* a tick inside the bar (the minimum of a median); negative: none */
    const char *text;   /* behind the bar: "1.25 ms, 2.0x" */
} Bar;
typedef struct BarGroup { const char *title; const Bar *bar; uint32_t n; } BarGroup;
typedef struct Chart { const char *title, *note; const BarGroup *group; uint32_t n; } Chart;

void chart_svg(Writer *w, const Chart *c); /* an <svg> element, usable as a file of its own */

typedef struct LineSeries { const char *label; const double *x, *y; uint32_t n; } LineSeries; /* all > 0 */
typedef struct LineChart { const char *title, *x_name, *y_name; const LineSeries *series; uint32_t n; } LineChart;
void lines_svg(Writer *w, const LineChart *c); /* both axes logarithmic; an <svg> element like the other */

void html_open(Writer *w, const char *title);
void html_heading(Writer *w, const char *text);
void html_paragraph(Writer *w, const char *text);
void html_table(Writer *w, const Table *t);
void html_close(Writer *w);
void xml_text(Writer *w, const char *text); /* escaped */

#endif
