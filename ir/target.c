#include "ir/target.h"

#include <string.h>

#include "lathe.h"

typedef enum TargetId {
#define TARGET(id, name, bits, registers, fma, scalable, flags) TARGET_##id,
#include "ir/target.def"
#undef TARGET
    TARGET_COUNT
} TargetId;

static const Target targets[TARGET_COUNT] = {
#define TARGET(id, name, bits, registers, fma, scalable, flags) [TARGET_##id] = {name, bits, registers, fma, scalable, flags},
#include "ir/target.def"
#undef TARGET
};

static TargetId host(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return TARGET_X86_64_V4;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return TARGET_X86_64_V3;
    return __builtin_cpu_supports("sse4.2") ? TARGET_X86_64_V2 : TARGET_X86_64;
#elif defined(__aarch64__)
    return TARGET_ARMV8_A;
#elif defined(__riscv_v)
    return TARGET_RV64GCV;
#else
    return TARGET_GENERIC;
#endif
}

const Target *target_find(const char *name) {
    if (name == NULL || strcmp(name, "native") == 0) return &targets[host()];
    for (uint32_t i = 0; i < TARGET_COUNT; i++)
        if (strcmp(targets[i].name, name) == 0) return &targets[i];
    return NULL;
}

const Target *target_at(uint32_t i) { return i < TARGET_COUNT ? &targets[i] : NULL; }

const Target *module_target(const Module *m) {
    const Target *t = target_find(m->options != NULL ? m->options->target : NULL);
    return t != NULL ? t : &targets[TARGET_GENERIC];
}
