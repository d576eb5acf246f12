/* Contractions inside kernels (S_CONTRACT): the micro-kernel family of matrix products and convolutions. */
#ifndef LATHE_IR_CONTRACT_H
#define LATHE_IR_CONTRACT_H
#include "ir/kernel.h"

/* Buffers of a kernel were reordered: map[old] = new. Called once, when lowering of the kernel ends. */
void contract_renumber(Kernel *k, Context *cx, struct Contract *c, const uint32_t *map);

/* The lines of a contraction in the kernel's text: all that distinguishes it from others (ir/kernel_text.h). */
struct KernelText;
void contract_print(struct KernelText *t, const struct Contract *c);

#endif
