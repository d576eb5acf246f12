/* Numbers of the IR text: the shortest text that reads back to the same bits.
 *
 *     f32 0.1  ->  "0.1"       f32 NaN with a payload  ->  "0x7fc00001"       u64 max  ->  "18446744073709551615"
 *
 * An element is its storage bits in a uint64_t (complex elements are two floats). */
#ifndef LATHE_IR_TEXT_NUMBER_H
#define LATHE_IR_TEXT_NUMBER_H
#include "ir/type.h"

/* Characters of names: bare names are made of name characters and start with no digit. */
static inline bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static inline bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static inline bool is_name_char(char c) {
    return is_letter(c) || is_digit(c) || c == '.' || c == '/';
}

/* The type of the numbers a constant of type d is written in: c64 -> f32, c128 -> f64, all others d itself. */
DType number_dtype(DType d);
uint64_t number_get(const void *data, DType d, size_t i);       /* storage bits of element i; data may be unaligned */
void number_set(void *data, DType d, size_t i, uint64_t bits);  /* data must be zero there for packed types */
void number_print(Writer *w, DType d, uint64_t bits);
/* text: a number as number_print writes it, with its sign; or a decimal or 0x number. False: not a number of type d. */
bool number_read(DType d, const char *text, uint64_t *bits);
/* An attribute's double. Nearly all are floats and print as such; others get a final 'd': 0.1 is 0.1f, 0.1d is not. */
void number_print_attr(Writer *w, double v);
bool number_read_attr(const char *text, double *v);

void base64_print(Writer *w, const void *data, size_t n);
/* Exactly n bytes from the text; false if it is not base64 of that many. */
bool base64_read(const char *text, size_t text_size, void *data, size_t n);

#endif
