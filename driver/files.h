/* Tensors in files (.npy, .npz, .pb) and directories of them. */
#ifndef LATHE_DRIVER_FILES_H
#define LATHE_DRIVER_FILES_H
#include "driver/data.h"

typedef VEC(Tensor) Tensors;

/* All tensors of a file: one for .npy and .pb, any number for .npz. False after driver_error. */
bool tensors_read(Driver *d, const char *path, Tensors *list);
bool tensor_write_npy(Driver *d, const char *path, const Tensor *t); /* false after driver_error */

bool file_exists(const char *path);
/* Names in a directory that begin and end so, sorted, numbers by value ("set_2" before "set_10"). */
Texts directory_entries(Driver *d, const char *dir, const char *prefix, const char *suffix);

#endif
