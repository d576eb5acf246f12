/* Numbers and tables as text. */
#ifndef LATHE_DRIVER_TEXT_H
#define LATHE_DRIVER_TEXT_H
#include "driver/driver.h"

char *size_text(char *to, size_t n, double bytes);   /* "1.5 MiB"; returns to */
char *count_text(char *to, size_t n, double count);  /* "25.6 M" */
char *dims_text(Driver *d, const LatheTensorInfo *info); /* "float32[N,3,224,224]", sequences as "sequence of …" */
char *shape_text(Driver *d, uint32_t rank, const int64_t *dim); /* "2,3,4" */

bool text_ends_with(const char *text, const char *end);
const char *file_base_name(const char *path); /* behind the last slash */
/* Model text for a terminal: control characters become '?'. */
const char *printable(Driver *d, const char *text);

void json_string(Writer *w, const char *text); /* with quotes; bytes that are no valid JSON text are escaped */

/* A table of text cells, columns as wide as their longest cell:
 *
 *     Table t = table_new(d, "config,threads,median ms");
 *     table_row(&t, "fused,%d,%.3f", 1, 1.25);           // cells split at commas
 *     table_print(&t, stdout);
 *
 * Columns whose cells all look like numbers are set right. */
typedef struct Table {
    Driver *d;
    uint32_t n_column;
    Texts cells; /* header first, row after row */
} Table;
Table table_new(Driver *d, const char *columns);
void table_row(Table *t, const char *format, ...) LATHE_PRINTF(2, 3);
void table_cell(Table *t, const char *text); /* one cell, commas allowed */
void table_print(const Table *t, FILE *to);

#endif
