#include "driver/commands.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- suggestions ------------------------------------------------------------------------------------------------ */
static unsigned least(unsigned a, unsigned b, unsigned c) {
    unsigned ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Edit distance: insertions, deletions, substitutions, and swaps of neighbours. Texts longer than 63 count as far. */
static unsigned distance(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b);
    if (n > 63 || m > 63) return 64;
    unsigned row[3][65];
    for (size_t j = 0; j <= m; j++) row[0][j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned *now = row[i % 3], *above = row[(i + 2) % 3], *two_above = row[(i + 1) % 3];
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            now[j] = least(above[j] + 1, now[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && two_above[j - 2] + 1 < now[j])
                now[j] = two_above[j - 2] + 1;
        }
    }
    return row[n % 3][m];
}

const char *args_nearest(const char *text, const char *const *list) {
    const char *best = NULL;
    unsigned best_distance = (unsigned)strlen(text) / 3 + 1;
    for (; *list != NULL; list++) {
        unsigned n = distance(text, *list);
        if (n < best_distance) {
            best = *list;
            best_distance = n;
        }
    }
    return best;
}

/* ---- the parser ------------------------------------------------------------------------------------------------- */
typedef struct Parser {
    Driver *d;
    const Command *c;
    Request *r;
    char **argv;
    int argc, at;
    uint32_t n_error;
} Parser;

static void fail(Parser *p, const char *format, ...) LATHE_PRINTF(2, 3);
static void fail(Parser *p, const char *format, ...) {
    Writer w = {.arena = &p->d->arena};
    va_list args;
    va_start(args, format);
    cw_vprintf(&w, format, args);
    va_end(args);
    driver_error(p->d, "%s", cw_cstr(&w));
    p->n_error++;
}

static const Option *find(const Command *c, const char *name, size_t n) {
    for (const Option *const *table = c->options; *table != NULL; table++)
        for (const Option *o = *table; o->name != NULL; o++)
            if (strlen(o->name) == n && memcmp(o->name, name, n) == 0) return o;
    return NULL;
}

static bool has_kind(const Command *c, OptionKind kind) {
    for (const Option *const *table = c->options; *table != NULL; table++)
        for (const Option *o = *table; o->name != NULL; o++)
            if (o->kind == kind) return true;
    return false;
}

bool args_is_pass(const char *name) {
    for (uint32_t i = 0; lathe_pass_name(i) != NULL; i++)
        if (strcmp(lathe_pass_name(i), name) == 0) return true;
    return false;
}

/* The command that has an option of just this name, NULL: none. */
static const Command *owner_of(const char *name) {
    for (const Command *const *c = driver_commands; *c != NULL; c++)
        if (find(*c, name, strlen(name)) != NULL) return *c;
    return NULL;
}

static void unknown_option(Parser *p, const char *name) {
    Arena *arena = &p->d->arena;
    Texts names = {0};
    for (const Option *const *table = p->c->options; *table != NULL; table++)
        for (const Option *o = *table; o->name != NULL; o++)
            if (o->kind != OPT_LEVEL && o->kind != OPT_NO_PASS) vec_push(arena, &names, o->name);
    for (uint32_t i = 0; has_kind(p->c, OPT_NO_PASS) && lathe_pass_name(i) != NULL; i++)
        vec_push(arena, &names, driver_format(p->d, "--no-%s", lathe_pass_name(i)));
    vec_push(arena, &names, NULL);
    const char *near = args_nearest(name, names.v);
    const Command *owner = owner_of(name);
    if (owner != NULL) fail(p, "lathe %s has no %s, `lathe %s` has (`lathe %s --help` says more)", p->c->name, name, owner->name, owner->name);
    else if (near != NULL) fail(p, "unknown option %s; did you mean %s?", name, near);
    else fail(p, "unknown option %s; `lathe %s --help` lists the options", name, p->c->name);
}

static void push_list(Parser *p, Texts *list, const char *value) {
    for (;; value++) {
        size_t n = strcspn(value, ",");
        if (n != 0) vec_push(&p->d->arena, list, arena_strdup(&p->d->arena, value, n));
        value += n;
        if (*value == 0) return;
    }
}

/* Index of text among the words of "a|b|c"; -1 if it is none of them. */
static int choice(const char *words, const char *text) {
    for (int i = 0;; i++, words++) {
        size_t n = strcspn(words, "|");
        if (strlen(text) == n && memcmp(words, text, n) == 0) return i;
        words += n;
        if (*words == 0) return -1;
    }
}

static void store(Parser *p, const Option *o, const char *value) {
    char *field = (char *)p->r + o->offset, *end;
    errno = 0;
    switch (o->kind) {
    case OPT_FLAG: *(bool *)field = true; return;
    case OPT_TEXT: *(const char **)field = value; return;
    case OPT_TEXTS: vec_push(&p->d->arena, (Texts *)field, value); return;
    case OPT_LIST: push_list(p, (Texts *)field, value); return;
    case OPT_COUNT: {
        long long n = strtoll(value, &end, 10);
        if (!isdigit((unsigned char)value[0]) || *end != 0 || errno != 0) fail(p, "%s %s: expected a whole number, 0 or more", o->name, value);
        else *(int64_t *)field = n;
        return;
    }
    case OPT_REAL: {
        double x = strtod(value, &end);
        if (value[0] == 0 || *end != 0 || !(x >= 0)) fail(p, "%s %s: expected a number, 0 or more", o->name, value);
        else *(double *)field = x;
        return;
    }
    case OPT_CHOICE: {
        int i = choice(o->value, value);
        if (i < 0) fail(p, "%s %s: expected one of %s", o->name, value, o->value);
        else *(int *)field = i;
        return;
    }
    case OPT_LEVEL: case OPT_NO_PASS: return; /* parsed by their own form */
    }
}

static bool level(Parser *p, const char *arg) {
    if (strncmp(arg, "-O", 2) != 0 || !has_kind(p->c, OPT_LEVEL)) return false;
    if (arg[2] >= '0' && arg[2] <= '3' && arg[3] == 0) p->r->level = arg[2] - '0';
    else fail(p, "unknown option %s; levels are -O0, -O1, -O2 and -O3", arg);
    return true;
}

static bool no_pass(Parser *p, const char *arg) {
    if (strncmp(arg, "--no-", 5) != 0 || !has_kind(p->c, OPT_NO_PASS) || !args_is_pass(arg + 5)) return false;
    vec_push(&p->d->arena, &p->r->disable, arg + 5);
    return true;
}

static void option(Parser *p, const char *arg) {
    const char *equals = arg[1] == '-' ? strchr(arg, '=') : NULL;
    size_t n = equals != NULL ? (size_t)(equals - arg) : strlen(arg);
    const Option *o = find(p->c, arg, n);
    if (o == NULL && (level(p, arg) || no_pass(p, arg))) return;
    if (o == NULL && arg[1] != '-' && n > 2 && (o = find(p->c, arg, 2)) != NULL && o->value != NULL) { /* -omodel.c */
        store(p, o, arg + 2);
        return;
    }
    if (o == NULL) {
        unknown_option(p, arena_strdup(&p->d->arena, arg, n));
        return;
    }
    if (o->value == NULL) {
        if (equals != NULL) fail(p, "%s takes no value", o->name);
        else store(p, o, NULL);
    } else if (equals != NULL) {
        store(p, o, equals + 1);
    } else if (p->at + 1 < p->argc) {
        store(p, o, p->argv[++p->at]);
    } else {
        fail(p, "%s needs a value: %s %s", o->name, o->name, o->value);
    }
}

bool args_parse(Driver *d, const Command *c, int argc, char **argv, Request *r) {
    *r = (Request){.level = -1, .rtol = -1, .atol = -1, .range_tol = -1, .seed = 1, .quantize.percentile = -1};
    Parser p = {.d = d, .c = c, .r = r, .argv = argv, .argc = argc, .at = 1};
    bool only_files = false;
    for (; p.at < argc; p.at++) {
        char *arg = argv[p.at];
        if (!only_files && strcmp(arg, "--") == 0) only_files = true;
        else if (!only_files && arg[0] == '-' && arg[1] != 0) option(&p, arg);
        else vec_push(&d->arena, &r->files, arg);
    }
    if (r->help) return true;
    if (r->files.n < c->min_files) fail(&p, "%s missing: lathe %s %s", c->files, c->name, c->files);
    for (uint32_t i = c->max_files; i < r->files.n; i++) fail(&p, "unexpected argument %s", r->files.v[i]);
    if (p.n_error != 0) fprintf(stderr, "`lathe %s --help` shows how it is used\n", c->name);
    return p.n_error == 0;
}

/* ---- help ------------------------------------------------------------------------------------------------------- */
static void help_option(const Option *o, FILE *to) {
    char left[80];
    snprintf(left, sizeof left, "%s%s%s", o->name, o->value != NULL ? " " : "", o->value != NULL ? o->value : "");
    if (strlen(left) > 28) fprintf(to, "  %s\n  %-28s %s\n", left, "", o->help);
    else fprintf(to, "  %-28s %s\n", left, o->help);
}

void args_help(const Command *c, FILE *to) {
    fprintf(to, "lathe %s [options] %s\n%s\n", c->name, c->files, c->summary);
    if (c->details != NULL) fprintf(to, "\n%s\n", c->details);
    fprintf(to, "\n");
    for (const Option *const *table = c->options; *table != NULL; table++)
        for (const Option *o = *table; o->name != NULL; o++) help_option(o, to);
    if (!has_kind(c, OPT_NO_PASS)) return;
    fprintf(to, "\nPasses, in the order they run:\n");
    for (uint32_t i = 0; lathe_pass_name(i) != NULL; i++) fprintf(to, "  %-16s %s\n", lathe_pass_name(i), lathe_pass_purpose(i));
}
