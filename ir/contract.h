/* Micro-kernels inside kernels. An S_CONTRACT statement calls one micro-kernel, which computes a small tile of results
 * into a stack array; loops around it, and the loop that stores the tile through the fused epilogue, are ordinary
 * statements. So a whole contraction reads
 *
 *     for p < 4 parallel(2)                     panel of 64 columns
 *       for t < 523                             tile of 6 rows
 *         rows = min(6, 3136 - 6*t)
 *         tile_6x64(b4, rows, b0 + 384*t, ...)  b4[r,j] = sum over k of A[6*t + r, k] * B[p, k, j]
 *         for r < rows  for j < 64
 *           b3[6*t + r, 64*p + j] = max(b4[r,j] + b2[64*p + j], 0)
 *
 * The arguments stand in Stmt.arg, in the order of the enums below; buffers and offsets in elements. Micro-kernels are
 * generated once per shape (codegen/contract.c) and take addresses and strides as arguments, so layers share them. */
#ifndef LATHE_IR_CONTRACT_H
#define LATHE_IR_CONTRACT_H
#include "ir/kernel.h"

struct KernelText;

typedef enum ContractKind {
    CONTRACT_TILE,      /* out[OUT_AT + r*cols + j] = sum over i < N1, l < N2, k < K of a[r*A_ROW + i*A_1 + l*A_2 + k*A_K] * b[i*B_1 + l*B_2 + k*B_K + j] */
    CONTRACT_TILE_BF16, /* the same with a bfloat16, A_K 1 and b packed for it: runtime/tile_bf16.h; cols 32, OUT_AT 0 */
    CONTRACT_TILE_I8,   /* a of u8 or s8 elements before A_END, A_K 1, b packed for it, out of i32: runtime/tile_i8.h; cols 16 to 64, OUT_AT 0 */
    CONTRACT_BLOCK,     /* out[r][j] for 64 columns of weights in groups with scales: runtime/tile_block.h; a of floats, or s8 with SCALE and TOTAL per group */
    CONTRACT_DEPTHWISE, /* out[r, j] = sum over y < TAPS_Y, x < taps_x of a[(r*step + x*dilation - left)*A_X + y*A_Y + j] * b[(y*taps_x + x)*cols + j];
                           pixels r*step + x*dilation below left, and the last `right` ones, lie outside and count as zero.
                           a of u8 or s8: ZERO is subtracted from its elements; the sums are exact floats. a of bfloat16: converted.
                           ring: the lines from number WRAP on begin BACK elements earlier */
} ContractKind;

enum TileArg { TILE_OUT, TILE_ROWS, TILE_OUT_AT, TILE_A, TILE_A_AT, TILE_A_ROW, TILE_A_K, TILE_N1, TILE_A_1, TILE_N2, TILE_A_2, TILE_K, TILE_B, TILE_B_AT, TILE_B_1, TILE_B_2, TILE_B_K, TILE_AHEAD, TILE_A_END, TILE_ARGS, TILE_OUT_ROW = TILE_ARGS, TILE_BIAS, TILE_BIAS_AT, TILE_LOW, TILE_HIGH, TILE_FINISH_ARGS };
enum DepthwiseArg { DW_OUT, DW_ROWS, DW_A, DW_A_AT, DW_A_X, DW_A_Y, DW_TAPS_Y, DW_B, DW_B_AT, DW_ZERO, DW_ARGS, DW_WRAP = DW_ARGS, DW_BACK, DW_RING_ARGS, DW_OUT_AT = DW_RING_ARGS, DW_OUT_ROW, DW_BIAS, DW_BIAS_AT, DW_LOW, DW_HIGH, DW_FINISH_ARGS };

enum BlockArg { BLOCK_OUT, BLOCK_ROWS, BLOCK_A, BLOCK_A_AT, BLOCK_A_ROW, BLOCK_K, BLOCK_GROUP, BLOCK_B, BLOCK_B_AT, BLOCK_FLOAT_ARGS, BLOCK_SCALE = BLOCK_FLOAT_ARGS, BLOCK_TOTAL, BLOCK_GROUPS_AT, BLOCK_GROUPS, BLOCK_ARGS };

typedef struct Contract {
    ContractKind kind;
    uint8_t rows, cols;   /* at most rows x cols results; out's rows are cols elements apart */
    bool add;             /* TILE: out += the sum */
    bool finish, low, high; /* TILE and DEPTHWISE, finish: out[OUT_AT + r*OUT_ROW + j] = the sum + bias[BIAS_AT + j], not below LOW (if low), not above HIGH (if high) */
    uint8_t ahead;        /* TILE: meanwhile fetch b[AHEAD ..] into the second-level cache, so many floats per k, up to 16: a cache line; 0: nothing */
    bool stream;          /* TILE: b is read once: the page behind the one being read is fetched, too */
    uint8_t vector;       /* floats in a vector register */
    uint8_t bits;         /* BLOCK: of a weight, 4 or 8 */
    uint8_t taps_x, step, dilation, left, right; /* DEPTHWISE */
    bool ring;            /* DEPTHWISE: a is a ring of lines */
} Contract;

void contract_print(struct KernelText *t, const Stmt *s);
/* Multiplications of one execution, for cost models. */
double contract_work(const Stmt *s);

#endif
