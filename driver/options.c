/* Option tables that several commands share, and how they become LatheOptions. */
#include "driver/args.h"

#include <stdlib.h>

const Option help_options[] = {
    {"--help", OPT_FLAG, NULL, "this text", offsetof(Request, help)},
    {"-h", OPT_FLAG, NULL, "the same", offsetof(Request, help)},
    {0},
};

const Option compile_options[] = {
    {"--dim", OPT_TEXTS, "NAME=SIZE|NAME=LOW..HIGH", "fix or bound a symbolic dim of the model (may be repeated)", offsetof(Request, dims)},
    {"--target", OPT_TEXT, "TARGET", "native (default), x86-64-v4-amx, x86-64-v4-vnni, x86-64-v4, x86-64-v3, x86-64-v2, x86-64, armv8-a, armv8-sve256, armv8-sve512, rv64gcv, rv64gcv-vl256, wasm32, generic; several of x86-64 for one file, or x86-64-any", offsetof(Request, target)},
    {"-O0..-O3", OPT_LEVEL, NULL, "how much is optimised: -O0 nothing, above everything (default -O2); -O3 also times what can be lowered in several ways, and keeps what it found", offsetof(Request, level)},
    {"--weights", OPT_CHOICE, "auto|embed|incbin|file", "where constants go: small ones in the C file, else .incbin (auto); text in the C file; .incbin; a file for NAME_init", offsetof(Request, weights)},
    {"--precision", OPT_CHOICE, "f32|bf16", "bf16: weights and inputs of matrix products and convolutions in bfloat16, sums in float32 (default f32)", offsetof(Request, precision)},
    {"--fast-math", OPT_FLAG, NULL, "exp, tanh, sigmoid, sin and cos of float within 4 units of last place instead of 2, and faster", offsetof(Request, fast_math)},
    {"--no-PASS", OPT_NO_PASS, NULL, "skip an optimisation pass, as --no-fuse (may be repeated)", offsetof(Request, disable)},
    {"--memory", OPT_TEXT, "SIZE|sram=SIZE,dram=SIZE", "limit of the arena, as 2M or 64K, or of two memories, as sram=64K,dram=1M: first layers run in bands of lines, training computes parts of the forward pass again; or the least that is possible is said", offsetof(Request, memory)},
    {"--dump", OPT_TEXT, "PASS|all", "print the IR after a pass", offsetof(Request, dump)},
    {"--time-passes", OPT_FLAG, NULL, "print how long each pass takes", offsetof(Request, time_passes)},
    {"--verify-ir", OPT_FLAG, NULL, "check the IR after each pass", offsetof(Request, verify_ir)},
    {0},
};

const Option build_options[] = {
    {"--cc", OPT_TEXT, "COMPILER", "C compiler; default: $CC, clang, clang-19 … clang-14, gcc, cc", offsetof(Request, cc)},
    {"--cflags", OPT_TEXT, "FLAGS", "more flags for it, separated by spaces", offsetof(Request, cflags)},
    {"--no-cache", OPT_FLAG, NULL, "build again even if the same code was built before", offsetof(Request, no_cache)},
    {0},
};

const Option data_options[] = {
    {"--input", OPT_TEXTS, "[NAME=]FILE", ".npy or .pb file of one input; without NAME= in the order of the model's inputs", offsetof(Request, input)},
    {"--inputs", OPT_TEXTS, "FILE.npz", "several inputs, by name", offsetof(Request, inputs)},
    {"--seed", OPT_COUNT, "N", "seed of random inputs (default 1)", offsetof(Request, seed)},
    {0},
};

bool threads_all(Driver *d, const Request *r, Threads *threads) {
    *threads = (Threads){0};
    bool good = true;
    for (uint32_t i = 0; i < r->threads.n; i++) {
        char *end;
        long n = strtol(r->threads.v[i], &end, 10);
        if (*end != 0 || n < 1 || n > 4096) {
            driver_error(d, "--threads %s: expected numbers from 1 to 4096, separated by commas", r->threads.v[i]);
            good = false;
        }
        vec_push(&d->arena, threads, (int)n);
    }
    return good;
}

bool threads_one(Driver *d, const Request *r, int *threads) {
    Threads list;
    if (!threads_all(d, r, &list)) return false;
    if (list.n > 1) {
        driver_error(d, "--threads takes one number here");
        return false;
    }
    *threads = list.n == 1 ? list.v[0] : 0;
    return true;
}
