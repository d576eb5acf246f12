/* Code for several targets in one file: --target x86-64,x86-64-v3,x86-64-v4.
 *
 *     static int net_version(void)            which of them this machine runs, asked once by NAME_init
 *     static void net_steps(…)                switch (ctx->version) { case 0: net_steps_x86_64(…); … }
 *
 * Every target has a plan of its own (other tiles, other packing of weights), printed with the functions it needs between pragmas that
 * compile them for its instructions, whatever the flags of the command line are. Compilers define __AVX2__ and its kin for the
 * command line only, so what asks for them asks for LATHE_HAS_AVX2 there, and all names of ours end in the target's. */
#include <ctype.h>
#include <stdio.h>

#include "codegen/emit.h"
#include "codegen/words.h"
#include "ir/target.h"

static const char *suffix_of(Emit *e, const Target *t) {
    Writer w = {.arena = &e->cx->scratch};
    for (const char *c = t->name; *c != 0; c++) cw_printf(&w, "%c", isalnum((unsigned char)*c) ? *c : '_');
    return str_text(e->cx, str_format(e->cx, "_%s", cw_cstr(&w)));
}

/* Targets whose plans are alike share one; they may still differ in the instructions that runtime code asks for. */
void versions_open(Emit *e) {
    const TargetList list = target_list(e->m->options != NULL ? e->m->options->target : NULL);
    e->n_version = list.n;
    e->version = ARENA_ARRAY(&e->cx->scratch, Version, list.n);
    uint32_t first = 0;
    Plan *p = e->m->plan;
    for (uint32_t i = list.n; i-- > 0;) {
        Version *v = &e->version[i];
        if (i + 1 < list.n && !target_plans_alike(list.target[i], list.target[i + 1])) {
            first += p->n_step;
            p = p->before;
        }
        *v = (Version){.target = list.target[i], .plan = p, .suffix = list.n > 1 ? suffix_of(e, list.target[i]) : "", .first_step = first};
        v->helpers.arena = v->kernels.arena = v->run.arena = &e->cx->scratch;
        p->weight = e->m->plan->weight; /* the best target's list has all versions' */
        p->n_weight = e->m->plan->n_weight;
        if (p->arena_bytes > e->arena_bytes) e->arena_bytes = p->arena_bytes;
        if (p->fast_bytes > e->fast_bytes) e->fast_bytes = p->fast_bytes;
    }
    e->plan = e->m->plan;
    e->weight_bytes = e->plan->weight_bytes;
}

/* What Version and Emit both have changes places. */
static void exchange(Emit *e, Version *v) {
#define EXCHANGE(type, field) do { type kept = e->field; e->field = v->field; v->field = kept; } while (0)
    EXCHANGE(Writer, helpers);
    EXCHANGE(Writer, kernels);
    EXCHANGE(Writer, run);
    EXCHANGE(struct RuntimeIndex *, runtime);
    EXCHANGE(StrVec, helper_names);
    EXCHANGE(KernelSignature *, signature);
    EXCHANGE(bool, any_tiles);
#undef EXCHANGE
}

static void enter(Emit *e, Version *v) {
    e->m->target = v->target;
    e->plan = v->plan;
    e->first_step = v->first_step;
    exchange(e, v);
}

static void leave(Emit *e, Version *v) {
    exchange(e, v);
    e->m->target = NULL;
}

/* Is the version the one that prints for its plan? The others copy. */
static bool prints(const Emit *e, uint32_t i) { return i + 1 == e->n_version || e->version[i].plan != e->version[i + 1].plan; }

void versions_each_plan(Emit *e, void (*print)(Emit *e)) {
    const Names global = names_copy(&e->global); /* kernels of all versions are called the same, up to their suffix */
    for (uint32_t i = 0; i < e->n_version; i++) {
        if (!prints(e, i)) continue;
        if (e->n_version > 1) e->global = names_copy(&global);
        enter(e, &e->version[i]);
        print(e);
        leave(e, &e->version[i]);
    }
}

/* ---- one version's text ---------------------------------------------------------------------------------------------- */
/* Words of a text outside of comments and strings. */
typedef struct Words { const char *p, *end; } Words;

/* Goes to the next word and returns its length; 0 at the end. What lies between is handed to `to`, unless that is NULL. */
static size_t next_word(Words *w, Writer *to) {
    const char *from = w->p;
    while (w->p < w->end && !word_char(*w->p)) {
        const char *behind = skip_quiet(w->p, w->end);
        w->p = behind != w->p ? behind : w->p + 1;
    }
    if (to != NULL) cw_text(to, from, (size_t)(w->p - from));
    return word_length(w->p, w->end);
}

static void reserve_ours(Emit *e, const Writer *text, Names *names) {
    Words w = {text->text, text->text + text->n};
    if (text->n == 0) return;
    for (size_t n; (n = next_word(&w, NULL)) != 0; w.p += n)
        if (word_is_ours(w.p, n)) names_reserve(names, str_text(e->cx, str_intern_n(e->cx, w.p, n)));
}

/* avx512f of a target's features is __AVX512F__ in C. Calls put with AVX512F for every one. */
static bool each_feature(const char *features, bool (*put)(void *user, const char *macro), void *user) {
    char macro[32];
    for (const char *p = features; p != NULL && *p != 0;) {
        size_t n = strcspn(p, ","), length = n < sizeof macro - 1 ? n : sizeof macro - 1;
        for (size_t i = 0; i < length; i++) macro[i] = isalnum((unsigned char)p[i]) ? (char)toupper((unsigned char)p[i]) : '_';
        macro[length] = 0;
        if (put(user, macro)) return true;
        p += n + (p[n] == ',');
    }
    return false;
}

typedef struct Word { const char *text; size_t n; } Word;

static bool is_macro(void *user, const char *macro) {
    const Word *w = user; /* __AVX512F__ */
    const size_t n = strlen(macro);
    return w->n == n + 4 && strncmp(w->text, "__", 2) == 0 && strncmp(w->text + 2, macro, n) == 0 && strncmp(w->text + 2 + n, "__", 2) == 0;
}

/* Is the word what a compiler defines for a feature of some target here? */
static bool asks_for_feature(Word w) {
    for (uint32_t i = 0; w.n > 4 && w.text[0] == '_' && target_at(i) != NULL; i++)
        if (each_feature(target_at(i)->features, is_macro, &w)) return true;
    return false;
}

typedef struct Asked { const Version *v; bool found; } Asked;

/* Does the version's code ask for the feature? */
static bool note_if_asked(void *user, const char *macro) {
    Asked *a = user;
    const Writer *const part[] = {&a->v->helpers, &a->v->kernels, &a->v->run};
    char word[40];
    snprintf(word, sizeof word, "__%s__", macro);
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) a->found |= part[i]->n != 0 && strstr(part[i]->text, word) != NULL;
    return a->found;
}

typedef struct Print { Writer *to; const Version *v; const char *directive; } Print;

static bool print_if_asked(void *user, const char *macro) {
    const Print *p = user;
    Asked a = {.v = p->v};
    if (note_if_asked(&a, macro)) cw_printf(p->to, "#%s LATHE_HAS_%s%s\n", p->directive, macro, p->directive[0] == 'd' ? " 1" : "");
    return false;
}

/* text with the suffix at this version's names: ours that are not in `common`, and those in `own`. */
static void print_renamed(Emit *e, Writer *to, const Writer *text, const Names *common, const Names *own, const char *suffix) {
    if (text->n == 0) return;
    Words w = {text->text, text->text + text->n};
    for (size_t n; (n = next_word(&w, to)) != 0; w.p += n) {
        if (asks_for_feature((Word){w.p, n})) {
            cw_printf(to, "LATHE_HAS_%.*s", (int)n - 4, w.p + 2);
            continue;
        }
        cw_text(to, w.p, n);
        const Str s = str_intern_n(e->cx, w.p, n);
        if (names_has(own, s) || (word_is_ours(w.p, n) && !names_has(common, s))) cw_printf(to, "%s", suffix);
    }
}

static void print_version(Emit *e, Writer *to, const Version *v, const Names *common) {
    const char *features = v->target->features;
    Names own = {.cx = e->cx};
    for (uint32_t i = 0; i < v->plan->n_kernel; i++) names_reserve(&own, v->signature[i].name);
    names_reserve(&own, emit_steps_name(e, 0));
    cw_printf(to, "/* ---- %s ---- */\n", v->target->name);
    each_feature(features, print_if_asked, &(Print){to, v, "define"});
    if (features[0] != 0)
        cw_printf(to, "#if defined(__clang__)\n#pragma clang attribute push(__attribute__((target(\"%s\"))), apply_to = function)\n"
                      "#else\n#pragma GCC push_options\n#pragma GCC target(\"%s\")\n#endif\n\n", features, features);
    const Writer *const part[] = {&v->helpers, &v->kernels, &v->run};
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) print_renamed(e, to, part[i], common, &own, v->suffix);
    if (features[0] != 0) cw_printf(to, "#if defined(__clang__)\n#pragma clang attribute pop\n#else\n#pragma GCC pop_options\n#endif\n");
    each_feature(features, print_if_asked, &(Print){to, v, "undef"});
    cw_printf(to, "\n");
}

void versions_join(Emit *e, const Writer *header) {
    Writer all = {.arena = &e->cx->scratch};
    Names common = {.cx = e->cx}; /* what the head and the header define is not renamed */
    reserve_ours(e, &e->head, &common);
    reserve_ours(e, header, &common);
    for (uint32_t i = 0; i < e->n_version; i++) print_version(e, &all, &e->version[i], &common);
    e->kernels = all;
}

/* ---- choosing ---------------------------------------------------------------------------------------------------------- */
static void print_question(Writer *w, const Version *v) {
    const char *p = v->target->supports;
    const char *comma = "";
    if (*p == 0 && !v->any_tiles) cw_printf(w, "1");
    while (*p != 0) {
        size_t n = strcspn(p, ",");
        cw_printf(w, "%s__builtin_cpu_supports(\"%.*s\")", comma, (int)n, p);
        comma = " && ";
        p += n + (p[n] == ',');
    }
    if (v->any_tiles) cw_printf(w, "%slathe_amx_request%s() == 0", comma, v->suffix);
}

static void print_call(Emit *e, Writer *w, const char *suffix) {
    cw_printf(w, "%s_steps%s(ctx, in, out, dims, tid, nt, status%s);\n", e->name, suffix, e->pool && e->any_parallel ? ", team" : "");
}

static void print_choice(Emit *e, Writer *w) {
    const char *n = e->name;
    cw_printf(w, "/* The best version for this machine, -1: it runs none. */\nstatic int %s_version(void)\n{\n    __builtin_cpu_init();\n", n);
    for (uint32_t i = e->n_version; i-- > 0;) {
        cw_printf(w, "    if (");
        print_question(w, &e->version[i]);
        cw_printf(w, ") return %u;\n", i);
    }
    cw_printf(w, "    return -1;\n}\n\n");
    cw_printf(w, "static void %s_steps(const %s_ctx *ctx, const %s_inputs *in, const %s_outputs *out, int64_t *dims, int tid, int nt, int *status%s)\n{\n    switch (ctx->version) {\n",
              n, n, n, n, e->pool && e->any_parallel ? ", lathe_team *team" : "");
    for (uint32_t i = e->n_version; i-- > 1;) {
        cw_printf(w, "    case %u: ", i);
        print_call(e, w, e->version[i].suffix);
        cw_printf(w, "        return;\n");
    }
    cw_printf(w, "    default: ");
    print_call(e, w, e->version[0].suffix);
    cw_printf(w, "        return;\n    }\n}\n\n");
    if (e->pool && e->any_parallel) emit_task(e, w, emit_steps_name(e, 0));
}

/* Has the version an instruction that the code asks for and that the plainer one does not have? A compiler by itself makes use of the
 * levels (x86-64-v2 and so on) only. */
static bool differs(const Version *v, const Version *plainer) {
    const size_t level = strcspn(v->target->supports, ",");
    if (level != strcspn(plainer->target->supports, ",") || strncmp(v->target->supports, plainer->target->supports, level) != 0) return true;
    for (const char *p = v->target->features; *p != 0;) {
        size_t n = strcspn(p, ",");
        char feature[32];
        snprintf(feature, sizeof feature, "%.*s", (int)n, p);
        Asked a = {.v = v};
        if (strstr(plainer->target->features, feature) == NULL && each_feature(feature, note_if_asked, &a)) return true;
        p += n + (p[n] == ',');
    }
    return false;
}

void versions_settle(Emit *e) {
    if (e->n_version == 1) {
        exchange(e, &e->version[0]);
        return;
    }
    for (uint32_t i = e->n_version - 1; i-- > 0;) {
        if (prints(e, i)) continue;
        Version *v = &e->version[i], own = *v;
        *v = e->version[i + 1];
        v->target = own.target;
        v->suffix = own.suffix;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < e->n_version; i++)
        if (n == 0 || e->version[n - 1].plan != e->version[i].plan || differs(&e->version[i], &e->version[n - 1])) e->version[n++] = e->version[i];
    e->n_version = n;
    print_choice(e, &e->run);
}
