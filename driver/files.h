/* Tensors in files (.npy, .npz, .pb) and directories of them. */
#ifndef LATHE_DRIVER_FILES_H
#define LATHE_DRIVER_FILES_H
#include "driver/data.h"

/* All tensors of a file: one for .npy and .pb, any number for .npz. kind: LatheTensorInfo.kind of what a .pb should hold, which the
 * file does not always say; -1: not known. False after driver_error. */
bool tensors_read(Driver *d, const char *path, int kind, Tensors *list);
bool tensor_write_npy(Driver *d, const char *path, const Tensor *t); /* false after driver_error */

/* Runs body, which uses the reader (d->files). False after driver_error: it returned false, or an internal check failed. */
typedef bool FileBody(Driver *d, const char *path, void *user);
bool files_guarded(Driver *d, FileBody *body, const char *path, void *user);

bool file_exists(const char *path);
/* Names in a directory that begin and end so, sorted, numbers by value ("set_2" before "set_10"). */
Texts directory_entries(Driver *d, const char *dir, const char *prefix, const char *suffix);

#endif
