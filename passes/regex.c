/* Pattern -> nondeterministic automaton (Thompson 1968) -> table of a deterministic one (subset construction).
 *
 * Syntax: literals, ., [sets] with ranges and classes, \d \w \s \D \W \S and escapes, (groups), (?:groups), |, *, +, ?,
 * {m}, {m,}, {m,n}, lazy marks (which do not change what matches as a whole), ^ and $ at the ends. Text is UTF-8: a dot
 * and a negated set match one whole character. Refused: back references, look-around. */
#include "passes/regex.h"

#include <string.h>

enum { MAX_STATES = 20000, MAX_DFA = 2000, MAX_DEPTH = 100, MAX_REPEAT = 1000 };

typedef struct Set { uint64_t bit[4]; } Set; /* of bytes */
typedef struct State { /* consumes: a byte of set, then out[0]; asserts: out[0] where the assertion holds; else both for free */
    Set set;
    int32_t out[2];
    bool consumes;
    char asserts; /* 'b': between a word character and another one (or an end), 'B': elsewhere */
} State;
typedef struct Part { int32_t start, end; } Part; /* end: a free state without exits yet */

typedef struct Regex {
    Context *cx;
    const char *p, *end;
    State *state;
    int32_t n;
    int depth;
    const char *error;
} Regex;

static void set_add(Set *s, unsigned lo, unsigned hi) {
    for (unsigned c = lo; c <= hi && c < 256; c++) s->bit[c / 64] |= (uint64_t)1 << c % 64;
}

static int32_t new_state(Regex *r, Set set, bool consumes, int32_t a, int32_t b) {
    if (r->n == MAX_STATES) {
        r->error = "it is too large";
        r->n = 0;
    }
    r->state[r->n] = (State){set, {a, b}, consumes, 0};
    return r->n++;
}

static Part empty(Regex *r) {
    int32_t s = new_state(r, (Set){{0}}, false, -1, -1);
    return (Part){s, s};
}

static Part consume(Regex *r, Set set) {
    int32_t e = new_state(r, (Set){{0}}, false, -1, -1);
    return (Part){new_state(r, set, true, e, -1), e};
}

static Part join(Regex *r, Part a, Part b) {
    r->state[a.end].out[0] = b.start;
    return (Part){a.start, b.end};
}

static Part either(Regex *r, Part a, Part b) {
    int32_t e = new_state(r, (Set){{0}}, false, -1, -1);
    r->state[a.end].out[0] = r->state[b.end].out[0] = e;
    return (Part){new_state(r, (Set){{0}}, false, a.start, b.start), e};
}

static Part range(Regex *r, unsigned lo, unsigned hi) {
    Set s = {{0}};
    set_add(&s, lo, hi);
    return consume(r, s);
}

/* One character: an ASCII one of `ascii`, or any of more bytes. */
static Part character(Regex *r, Set ascii) {
    Part p = consume(r, ascii);
    static const unsigned lead[3][2] = {{0xC2, 0xDF}, {0xE0, 0xEF}, {0xF0, 0xF4}};
    for (int more = 1; more <= 3; more++) {
        Part q = range(r, lead[more - 1][0], lead[more - 1][1]);
        for (int i = 0; i < more; i++) q = join(r, q, range(r, 0x80, 0xBF));
        p = either(r, p, q);
    }
    return p;
}

static bool class_set(char c, Set *s) { /* \d and its kin; upper case: the ASCII characters outside */
    Set plain = {{0}};
    switch (c | 32) {
    case 'd': set_add(&plain, '0', '9'); break;
    case 'w': set_add(&plain, '0', '9'), set_add(&plain, 'A', 'Z'), set_add(&plain, 'a', 'z'), set_add(&plain, '_', '_'); break;
    case 's': set_add(&plain, '\t', '\n'), set_add(&plain, '\f', '\r'), set_add(&plain, ' ', ' '); break;
    default: return false;
    }
    bool outside = c < 'a';
    for (int i = 0; i < 4; i++) s->bit[i] |= outside ? (i < 2 ? ~plain.bit[i] : 0) : plain.bit[i];
    return true;
}

static int escape(Regex *r, char c) { /* the byte an escape stands for, -1 if there is none */
    static const char *const pairs = "n\nt\tr\rf\fv\va\a";
    for (const char *q = pairs; *q != 0; q += 2)
        if (*q == c) return q[1];
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
        r->error = "an escape is not supported";
        return -1;
    }
    return (unsigned char)c;
}

static bool named_class(Regex *r, Set *s) { /* [:alpha:] inside a set */
    static const struct { const char *name; const char *ranges; } classes[] = {
        {"alpha", "AZaz"}, {"digit", "09"}, {"alnum", "09AZaz"}, {"upper", "AZ"}, {"lower", "az"}, {"space", "\t\r  "}, {"punct", "!/:@[`{~"}, {"xdigit", "09AFaf"}, {"word", "09AZaz__"}};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        size_t n = strlen(classes[i].name);
        if ((size_t)(r->end - r->p) < n + 4 || strncmp(r->p, "[:", 2) != 0 || strncmp(r->p + 2, classes[i].name, n) != 0 || strncmp(r->p + 2 + n, ":]", 2) != 0) continue;
        for (const char *q = classes[i].ranges; *q != 0; q += 2) set_add(s, (unsigned char)q[0], (unsigned char)q[1]);
        r->p += n + 4;
        return true;
    }
    return false;
}

static Part bracket(Regex *r) { /* behind [ */
    Set s = {{0}};
    bool negated = r->p < r->end && *r->p == '^', first = true;
    if (negated) r->p++;
    while (r->p < r->end && (*r->p != ']' || first)) {
        first = false;
        if (named_class(r, &s)) continue;
        int c = (unsigned char)*r->p++;
        if (c == '\\' && r->p < r->end) {
            char e = *r->p++;
            if (class_set(e, &s)) continue;
            c = escape(r, e);
        }
        if (c < 0) break;
        int hi = c;
        if (r->end - r->p >= 2 && r->p[0] == '-' && r->p[1] != ']') {
            hi = (unsigned char)r->p[1];
            r->p += 2;
            if (hi == '\\' && r->p < r->end) hi = escape(r, *r->p++);
        }
        if (c >= 0x80 || hi >= 0x80) r->error = "a set holds characters outside ASCII";
        if (hi < c && r->error == NULL) r->error = "a range of a set is reversed";
        set_add(&s, (unsigned)c, (unsigned)(hi < 0 ? c : hi));
    }
    if (r->p == r->end) {
        r->error = "a set is not closed";
        return empty(r);
    }
    r->p++;
    if (!negated) return consume(r, s);
    for (int i = 0; i < 2; i++) s.bit[i] = ~s.bit[i];
    s.bit[2] = s.bit[3] = 0;
    return character(r, s);
}

static Part alternatives(Regex *r);

static Part atom(Regex *r) {
    char c = *r->p++;
    Set s = {{0}};
    switch (c) {
    case '.':
        set_add(&s, 0, '\n' - 1), set_add(&s, '\n' + 1, 127);
        return character(r, s);
    case '[': return bracket(r);
    case '(': {
        if (r->end - r->p >= 2 && r->p[0] == '?' && r->p[1] == ':') r->p += 2;
        else if (r->end - r->p >= 3 && strncmp(r->p, "?P<", 3) == 0) {
            while (r->p < r->end && *r->p != '>') r->p++;
            if (r->p < r->end) r->p++;
        } else if (r->p < r->end && *r->p == '?') r->error = "a group of this kind is not supported";
        Part p = alternatives(r);
        if (r->p == r->end || *r->p != ')') r->error = "a group is not closed";
        else r->p++;
        return p;
    }
    case '^': case '$': return empty(r); /* the match is of the whole string: at the ends they say nothing new */
    case '*': case '+': case '?': r->error = "a repetition has nothing to repeat"; return empty(r);
    case '\\':
        if (r->p == r->end) {
            r->error = "it ends in a backslash";
            return empty(r);
        }
        c = *r->p++;
        if (class_set(c, &s)) return c < 'a' ? character(r, s) : consume(r, s);
        if (c == 'A' || c == 'z') return empty(r);
        if (c == 'b' || c == 'B') {
            int32_t to = new_state(r, (Set){{0}}, false, -1, -1), at = new_state(r, (Set){{0}}, false, to, -1);
            r->state[at].asserts = c;
            return (Part){at, to};
        }
        int e = escape(r, c);
        return e < 0 ? empty(r) : range(r, (unsigned)e, (unsigned)e);
    default: return range(r, (unsigned char)c, (unsigned char)c);
    }
}

static bool number(Regex *r, int *value) {
    *value = 0;
    const char *from = r->p;
    while (r->p < r->end && *r->p >= '0' && *r->p <= '9' && *value <= MAX_REPEAT) *value = *value * 10 + (*r->p++ - '0');
    if (*value > MAX_REPEAT) r->error = "a repetition count is above 1000";
    return r->p != from;
}

/* {m}, {m,} or {m,n}; false: not a repetition, the brace is a literal. most = -1: no limit. */
static bool counts(Regex *r, int *least, int *most) {
    const char *from = r->p++;
    bool ok = number(r, least);
    *most = *least;
    if (ok && r->p < r->end && *r->p == ',') {
        r->p++;
        if (!number(r, most)) *most = -1;
    }
    ok &= r->p < r->end && *r->p == '}';
    if (ok) r->p++;
    else r->p = from;
    return ok;
}

static Part star(Regex *r, Part p) {
    int32_t e = new_state(r, (Set){{0}}, false, -1, -1), s = new_state(r, (Set){{0}}, false, p.start, e);
    r->state[p.end].out[0] = s;
    return (Part){s, e};
}

/* An atom with its repetitions. Counted copies are made by reading the atom's text again. */
static Part repeated(Regex *r) {
    const char *from = r->p;
    Part p = atom(r);
    while (r->p < r->end && r->error == NULL) {
        int least = 0, most = -1;
        switch (*r->p) {
        case '*': r->p++; break;
        case '+': r->p++, least = 1; break;
        case '?': r->p++, most = 1; break;
        case '{':
            if (!counts(r, &least, &most)) return p;
            break;
        default: return p;
        }
        const char *behind = r->p;
        Part all = empty(r);
        for (int i = 0; i < least && r->error == NULL; i++) {
            r->p = from;
            all = join(r, all, atom(r));
        }
        if (most < 0) {
            r->p = from;
            all = join(r, all, star(r, atom(r)));
        }
        for (int i = least; i < most && r->error == NULL; i++) {
            r->p = from;
            Part one = atom(r);
            all = join(r, all, either(r, one, empty(r)));
        }
        r->p = behind;
        if (r->p < r->end && *r->p == '?') r->p++; /* lazy */
        return all;
    }
    return p;
}

static Part alternatives(Regex *r) {
    if (++r->depth > MAX_DEPTH) r->error = "groups are nested too deeply";
    Part all = {-1, -1};
    for (;;) {
        Part p = empty(r);
        while (r->error == NULL && r->p < r->end && *r->p != '|' && *r->p != ')') p = join(r, p, repeated(r));
        all = all.start < 0 ? p : either(r, all, p);
        if (r->error != NULL || r->p == r->end || *r->p != '|') break;
        r->p++;
    }
    r->depth--;
    return all;
}

/* ---- subset construction ------------------------------------------------------------------------------------------- */
typedef struct Subset { uint64_t *bits; bool behind_word; } Subset; /* behind_word: the byte before is a word character */

static bool has(const uint64_t *bits, int32_t i) { return bits[i / 64] >> i % 64 & 1; }

static void close_over(const Regex *r, uint64_t *bits, int32_t *stack, int32_t s) { /* s and all it reaches for free */
    int32_t n = 0;
    stack[n++] = s;
    while (n != 0) {
        int32_t i = stack[--n];
        if (i < 0 || has(bits, i)) continue;
        bits[i / 64] |= (uint64_t)1 << i % 64;
        if (r->state[i].consumes || r->state[i].asserts != 0) continue;
        stack[n++] = r->state[i].out[0];
        stack[n++] = r->state[i].out[1];
    }
}

static bool is_word(unsigned c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_'; }

/* Goes through the assertions that hold between the byte before and what comes next. */
static void pass_assertions(const Regex *r, uint64_t *bits, int32_t *stack, bool boundary) {
    for (bool changed = true; changed;) {
        changed = false;
        for (int32_t i = 0; i < r->n; i++) {
            if (!has(bits, i) || r->state[i].asserts == 0 || (r->state[i].asserts == 'b') != boundary || has(bits, r->state[i].out[0])) continue;
            close_over(r, bits, stack, r->state[i].out[0]);
            changed = true;
        }
    }
}

static const char *determine(Regex *r, Part whole, Dfa *dfa) {
    Context *cx = r->cx;
    size_t words = (size_t)r->n / 64 + 1;
    Subset *set = ARENA_ARRAY(&cx->scratch, Subset, MAX_DFA + 1);
    int32_t *stack = ARENA_ARRAY(&cx->scratch, int32_t, 2 * (size_t)r->n + 4);
    int32_t *next = ARENA_ARRAY(&cx->scratch, int32_t, (size_t)MAX_DFA * 256);
    uint64_t *here = ARENA_ARRAY(&cx->scratch, uint64_t, words);
    uint8_t *accept = ARENA_ARRAY(&cx->scratch, uint8_t, MAX_DFA);
    uint32_t n = 1;
    set[0].bits = ARENA_ARRAY(&cx->scratch, uint64_t, words);
    close_over(r, set[0].bits, stack, whole.start);
    for (uint32_t d = 0; d < n; d++) {
        memcpy(here, set[d].bits, words * sizeof *here);
        pass_assertions(r, here, stack, set[d].behind_word);
        accept[d] = has(here, whole.end);
        for (unsigned c = 0; c < 256; c++) {
            Subset to = {ARENA_ARRAY(&cx->scratch, uint64_t, words), is_word(c)};
            bool any = false;
            memcpy(here, set[d].bits, words * sizeof *here);
            pass_assertions(r, here, stack, set[d].behind_word != is_word(c));
            for (int32_t i = 0; i < r->n; i++) {
                if (!has(here, i) || !r->state[i].consumes || !(r->state[i].set.bit[c / 64] >> c % 64 & 1)) continue;
                close_over(r, to.bits, stack, r->state[i].out[0]);
                any = true;
            }
            uint32_t at = 0;
            while (any && at < n && (set[at].behind_word != to.behind_word || memcmp(set[at].bits, to.bits, words * sizeof *to.bits) != 0)) at++;
            if (any && at == n) {
                if (n == MAX_DFA) return "it needs more than 2000 states";
                set[n++] = to;
            }
            next[(size_t)d * 256 + c] = any ? (int32_t)at : -1;
        }
    }
    dfa->n = n;
    dfa->next = ARENA_ARRAY(&cx->arena, int32_t, (size_t)n * 256);
    dfa->accept = ARENA_ARRAY(&cx->arena, uint8_t, n);
    memcpy(dfa->next, next, (size_t)n * 256 * sizeof *next);
    memcpy(dfa->accept, accept, n);
    return NULL;
}

const char *regex_compile(Context *cx, const char *pattern, size_t n, Dfa *dfa) {
    Regex r = {.cx = cx, .p = pattern, .end = pattern + n, .state = ARENA_ARRAY(&cx->scratch, State, MAX_STATES)};
    Part whole = alternatives(&r);
    if (r.error == NULL && r.p < r.end) r.error = "a closing bracket has no opening one";
    return r.error != NULL ? r.error : determine(&r, whole, dfa);
}
