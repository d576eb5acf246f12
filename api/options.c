/* Options of a compilation: checked all at once against each other and the model, then stored in the model. */
#include "api/model.h"

#include <ctype.h>

#include "ir/target.h"
#include "passes/pass.h"

const char *lathe_target_flags(const char *target) {
    const TargetList list = target_list(target);
    return list.unknown == NULL ? list.target[0]->flags : NULL;
}

const char *lathe_target_plainest(const char *target) {
    const TargetList list = target_list(target);
    return list.unknown == NULL && list.n > 1 ? list.target[0]->name : NULL;
}

const char *lathe_pass_name(uint32_t i) {
    uint32_t n;
    const PassInfo *pass = pass_list(&n);
    return i < n ? pass[i].name : NULL;
}

const char *lathe_pass_purpose(uint32_t i) {
    uint32_t n;
    const PassInfo *pass = pass_list(&n);
    return i < n ? pass[i].purpose : NULL;
}

bool lathe_pass_optional(uint32_t i) {
    uint32_t n;
    const PassInfo *pass = pass_list(&n);
    return i < n && pass[i].when != WHEN_ALWAYS;
}

static bool is_identifier(const char *s) {
    if (!isalpha((unsigned char)s[0]) && s[0] != '_') return false;
    while (isalnum((unsigned char)*s) || *s == '_') s++;
    return *s == 0;
}

static void check_pass_name(LatheModel *m, const char *name) {
    if (pass_find(name) != NULL) return;
    Writer w = {.arena = &m->cx.arena};
    for (uint32_t i = 0; lathe_pass_name(i) != NULL; i++) cw_printf(&w, "%s%s", i == 0 ? "" : ", ", lathe_pass_name(i));
    diag(&m->cx, SEV_ERROR, (Loc){0}, "there is no pass \"%s\"; passes: %s", name, cw_cstr(&w));
}

static void check_disabled(LatheModel *m, const char *name) {
    check_pass_name(m, name);
    const PassInfo *pass = pass_find(name);
    if (pass != NULL && pass->when == WHEN_ALWAYS) diag(&m->cx, SEV_ERROR, (Loc){0}, "pass \"%s\" cannot be switched off: later passes need it", name);
}

static void check_target(LatheModel *m, const char *target) {
    const TargetList list = target_list(target);
    if (list.unknown == NULL) return;
    const bool several = strchr(target, ',') != NULL;
    Writer w = {.arena = &m->cx.arena};
    if (!several) cw_printf(&w, "native, x86-64-any");
    for (uint32_t i = 0; target_at(i) != NULL; i++)
        if (!several || target_at(i)->features != NULL) cw_printf(&w, "%s%s", w.n == 0 ? "" : ", ", target_at(i)->name);
    diag(&m->cx, SEV_ERROR, (Loc){0}, several ? "there is no target \"%.*s\" for a file with code for several; such targets: %s" : "there is no target \"%.*s\"; targets: %s",
         (int)strcspn(list.unknown, ","), list.unknown, cw_cstr(&w));
}

/* What only makes sense, or is only built, for one target. */
static void check_several(LatheModel *m, const LatheOptions *o) {
    if (target_list(o->target).n < 2) return;
    if (m->m->train != NULL) diag(&m->cx, SEV_ERROR, (Loc){0}, "targets \"%s\": training code is compiled for one target", o->target);
    if (o->profile) diag(&m->cx, SEV_ERROR, (Loc){0}, "targets \"%s\": a profile is of one target", o->target);
}

/* The C identifier a file or model name suggests: "my-net.v2" gives my_net_v2, "2x" gives m2x. */
static Str identifier_from(Context *cx, const char *text) {
    Writer w = {.arena = &cx->arena};
    if (!isalpha((unsigned char)text[0])) cw_printf(&w, "m");
    for (; *text != 0; text++) cw_printf(&w, "%c", isalnum((unsigned char)*text) ? *text : '_');
    return str_intern(cx, cw_cstr(&w));
}

static Str name_from_output(Context *cx, const char *output) {
    const char *base = strrchr(output, '/');
    base = base != NULL ? base + 1 : output;
    size_t n = strlen(base);
    if (n > 2 && strcmp(base + n - 2, ".c") == 0) n -= 2;
    return identifier_from(cx, arena_strdup(&cx->arena, base, n));
}

LatheStatus options_apply(LatheModel *m, const LatheOptions *options) {
    uint32_t before = m->cx.n_error;
    m->options = options != NULL ? *options : lathe_options();
    LatheOptions *o = &m->options;
    if (o->opt_level < 0) o->opt_level = 2;
    if (o->opt_level > 3) diag(&m->cx, SEV_ERROR, (Loc){0}, "optimisation level %d: levels are 0, 1, 2 and 3", o->opt_level);
    if (o->target == NULL) o->target = "native";
    check_target(m, o->target);
    check_several(m, o);
    if (o->name != NULL && !is_identifier(o->name))
        diag(&m->cx, SEV_ERROR, (Loc){0}, "name \"%s\" is not a C identifier: letters, digits and _ are accepted, not starting with a digit", o->name);
    if (o->shard_optimizer != 0 && o->distributed != LATHE_MPI)
        diag(&m->cx, SEV_ERROR, (Loc){0}, "the optimizer's state is divided among %u processes, but training is local: distributed training over MPI is needed", o->shard_optimizer);
    if (o->shard_optimizer > 65536) diag(&m->cx, SEV_ERROR, (Loc){0}, "the optimizer's state is divided among %u processes; at most 65536 are supported", o->shard_optimizer);
    dims_apply(m, o->dims);
    for (const char *const *p = o->disable; p != NULL && *p != NULL; p++) check_disabled(m, *p);
    if (o->dump != NULL && strcmp(o->dump, "all") != 0) check_pass_name(m, o->dump);
    if (m->cx.n_error != before) return LATHE_ERROR_USAGE;
    if (o->name != NULL) m->m->name = str_intern(&m->cx, o->name);
    else if (o->output != NULL) m->m->name = name_from_output(&m->cx, o->output);
    else m->m->name = identifier_from(&m->cx, str_text(&m->cx, m->m->name));
    m->m->options = o;
    m->cx.progress = o->progress;
    m->cx.progress_user = o->progress_user;
    return LATHE_OK;
}
