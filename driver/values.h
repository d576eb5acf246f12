/* Sequences and optionals in files of named tensors, and as the tensors that emitted code takes. In an .npz, or as one .npy each,
 *
 *     a sequence s is      s.0, s.1, … (its elements)     perhaps s.length, which an empty sequence needs: 0
 *     an optional o is     what it holds, under its name  or o.present = False
 *
 * and results are written with both, so that they can be read again. */
#ifndef LATHE_DRIVER_VALUES_H
#define LATHE_DRIVER_VALUES_H
#include "driver/files.h"

/* Index of the sequence or optional among info[0..n) that a tensor called name is a part of; n: none. */
uint32_t value_of_part(uint32_t n, const LatheTensorInfo *info, const char *name);
/* Puts the parts together: those of `parts` that belong to the value info describes, and *v, what was given under the value's own name.
 * Nothing given: v->data stays NULL. The problem as text, NULL if there is none. */
const char *value_assemble(Driver *d, const LatheTensorInfo *info, const Tensors *parts, Tensor *v);
/* The tensors of a value under the names above; a tensor is its own only leaf. They are added to list. */
void value_leaves(Driver *d, const Tensor *v, Tensors *list);
/* The tensor itself, or that of an optional that is there. */
const Tensor *value_held(const Tensor *v);

/* The tensors of v for the group's inputs of emitted code. False after driver_error: it does not fit. */
bool value_pack(Driver *d, const Tensor *v, LatheGroup group, const LatheTensorInfo *info, Tensor *part);
/* What a file holds, in the driver's form. */
struct HostTensor;
Tensor tensor_from_host(Driver *d, const struct HostTensor *h);
/* The value that the group's outputs hold. */
bool value_unpack(Driver *d, LatheGroup group, const Tensor *part, Tensor *v);

#endif
