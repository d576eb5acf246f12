#include "ir/target.h"

#include <string.h>

#include "lathe.h"

typedef enum TargetId {
#define TARGET(id, name, bits, registers, fma, scalable, flags, features, supports) TARGET_##id,
#include "ir/target.def"
#undef TARGET
    TARGET_COUNT
} TargetId;

static const Target targets[TARGET_COUNT] = {
#define TARGET(id, name, bits, registers, fma, scalable, flags, features, supports) [TARGET_##id] = {name, bits, registers, fma, scalable, flags, features, supports},
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

static bool is_name(const char *name, const char *text, size_t n) { return strlen(name) == n && strncmp(name, text, n) == 0; }

TargetList target_list(const char *names) {
    TargetList list = {0};
    if (names == NULL || strchr(names, ',') == NULL) {
        const bool any = names != NULL && strcmp(names, "x86-64-any") == 0;
        if (!any && (list.target[0] = target_find(names)) != NULL) list.n = 1;
        for (uint32_t i = TARGET_COUNT; any && i-- > 0;)
            if (targets[i].features != NULL) list.target[list.n++] = &targets[i];
        if (list.n == 0) list.unknown = names;
        return list;
    }
    bool wanted[TARGET_COUNT] = {0};
    for (const char *p = names;; p++) {
        size_t n = strcspn(p, ",");
        bool found = false;
        for (uint32_t i = 0; i < TARGET_COUNT; i++) {
            if (targets[i].features == NULL || !is_name(targets[i].name, p, n)) continue;
            found = wanted[i] = true;
        }
        if (!found && list.unknown == NULL) list.unknown = p;
        p += n;
        if (*p == 0) break;
    }
    for (uint32_t i = TARGET_COUNT; i-- > 0;)
        if (wanted[i]) list.target[list.n++] = &targets[i];
    return list;
}

bool target_plans_alike(const Target *a, const Target *b) { return a->vector_bits == b->vector_bits && a->registers == b->registers && a->fma == b->fma; }

const Target *module_target(const Module *m) {
    if (m->target != NULL) return m->target;
    const TargetList list = target_list(m->options != NULL ? m->options->target : NULL);
    return list.n != 0 ? list.target[list.n - 1] : &targets[TARGET_GENERIC];
}
