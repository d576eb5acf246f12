/* Elements of tensors of every ONNX type, as the files and the emitted code hold them: row-major, little-endian, packed
 * types low bits first. */
#ifndef LATHE_DRIVER_ELEMENT_H
#define LATHE_DRIVER_ELEMENT_H
#include "driver/driver.h"

typedef enum ElementClass { ELEMENT_NONE, ELEMENT_BOOL, ELEMENT_UNSIGNED, ELEMENT_SIGNED, ELEMENT_FLOAT, ELEMENT_COMPLEX, ELEMENT_STRING } ElementClass;

/* number: ONNX's number of the type (LatheDType and the ones it does not name). */
ElementClass element_class(int number);
const char *element_name(int number);  /* "float32" */
unsigned element_bits(int number);     /* storage bits; strings 0 */
size_t element_bytes(int number, int64_t n);
/* Machine epsilon of a float type (the distance from 1 to the next number); 0 for others. */
double element_epsilon(int number);

double element_f64(int number, const void *data, int64_t i); /* not for complex and strings */
/* Position in the order of all values of the type: neighbours differ by 1, -0 and +0 are equal. NaN: INT64_MAX. */
int64_t element_rank(int number, const void *data, int64_t i);
/* Stores x, rounded and clamped to the type. */
void element_store(int number, void *data, int64_t i, double x);

#endif
