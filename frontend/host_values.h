/* Between values in files and the tensors that emitted functions take: sequences and optionals are split as
 * passes/sequences.c splits them, strings become pointers. Plain tensors pass through. */
#ifndef LATHE_FRONTEND_HOST_VALUES_H
#define LATHE_FRONTEND_HOST_VALUES_H
#include "frontend/tensor_file.h"
#include "lathe.h"

/* The tensors of value v for one input: part[0..n) with the dims of info[0..n). False after diag(): it does not fit. */
bool host_pack(Context *cx, const HostTensor *v, LatheGroup group, const LatheTensorInfo *info, HostTensor *part);
/* The value that an output's tensors hold: data[i] with the run-time dims in part[i].dim. */
void host_unpack(Context *cx, LatheGroup group, const HostTensor *part, HostTensor *v);
/* Pointers to the text of the strings of t, as emitted code takes them; and back: Str ids of the strings at p. */
const char **host_string_pointers(Context *cx, const HostTensor *t);
void host_strings(Context *cx, HostTensor *t, const char *const *p);

#endif
