/* Copies functions of runtime/ into emitted files, only those that are used.
 *
 * A file of runtime/ is plain C, compiled and tested on its own. Here it is cut into chunks at blank lines outside of
 * braces; a chunk is a comment with the definition below it. It defines the identifiers starting with lathe_ or LATHE_
 * that it declares at brace depth 0 (a function, a table, a type, a macro) and those its comment lists after
 * "defines:" (functions whose names a macro makes), and needs every other such identifier it mentions, from whatever
 * file. Preprocessor conditionals belong inside a chunk. So adding runtime code is: put `static` functions named
 * lathe_… into a file in runtime/, and name them in lower_call or emit_need. */
#include "codegen/runtime_text.h"

#include <ctype.h>

#include "codegen/emit.h"
#include "codegen/words.h"

typedef struct Chunk { const char *text; size_t n; bool code; } Chunk;

struct RuntimeIndex {
    VEC(Chunk) chunk;
    VEC(Str) name;          /* defined identifier … */
    VEC(uint32_t) owner;    /* … and its chunk */
    bool *emitted;
};

/* Where a walk through a text is, and in how many brackets. */
typedef struct Cursor { const char *p, *end; int depth; } Cursor;

static int bracket(char c) { return c == '{' || c == '(' ? 1 : c == '}' || c == ')' ? -1 : 0; }

/* Is the word at depth 0 followed by what follows a declared name, or preceded by #define? */
static bool declares(const Chunk *chunk, const char *word, size_t n) {
    const char *after = word + n, *end = chunk->text + chunk->n;
    while (after < end && isspace((unsigned char)*after)) after++;
    if (word - chunk->text >= 8 && strncmp(word - 8, "#define ", 8) == 0) return true;
    return after < end && strchr("([;={", *after) != NULL;
}

static void visit_words(Emit *e, const Chunk *chunk, void (*visit)(Emit *e, Str word, bool declared, void *user), void *user) {
    Cursor c = {chunk->text, chunk->text + chunk->n, 0};
    for (;;) {
        c.p = skip_quiet(c.p, c.end);
        if (c.p >= c.end) return;
        const size_t n = word_length(c.p, c.end);
        if (n != 0) {
            if (word_is_ours(c.p, n)) visit(e, str_intern_n(e->cx, c.p, n), c.depth == 0 && declares(chunk, c.p, n), user);
            c.p += n;
            continue;
        }
        c.depth += bracket(*c.p);
        c.p++;
    }
}

static void add_definition(Emit *e, Str word, bool declared, void *user) {
    struct RuntimeIndex *r = e->runtime;
    uint32_t owner = *(uint32_t *)user;
    if (!declared) return;
    for (uint32_t i = 0; i < r->name.n; i++)
        if (r->name.v[i] == word) return; /* declared before, or an attribute macro in front of another name */
    vec_push(&e->cx->scratch, &r->name, word);
    vec_push(&e->cx->scratch, &r->owner, owner);
}

/* The names after "defines:" in the chunk's comment. */
static void add_listed(Emit *e, const Chunk *chunk, uint32_t index) {
    static const char mark[] = "defines:";
    const char *p = chunk->text, *end = chunk->text + chunk->n;
    while (p + sizeof mark < end && memcmp(p, mark, sizeof mark - 1) != 0) p++;
    if (p + sizeof mark >= end) return;
    for (p += sizeof mark - 1; p < end && *p != '*'; p += word_char(*p) ? word_length(p, end) : 1)
        if (word_is_ours(p, word_length(p, end))) add_definition(e, str_intern_n(e->cx, p, word_length(p, end)), true, &index);
}

static void add_chunk(Emit *e, const char *text, size_t n) {
    struct RuntimeIndex *r = e->runtime;
    Cursor c = {text, text + n, 0};
    c.p = skip_quiet(c.p, c.end);
    while (c.p < c.end && isspace((unsigned char)*c.p)) c.p++, c.p = skip_quiet(c.p, c.end);
    bool guard = n > 0 && (strncmp(c.p, "#ifndef LATHE_RUNTIME_", 22) == 0 || strncmp(c.p, "#include", 8) == 0 || strncmp(c.p, "#endif", 6) == 0);
    Chunk chunk = {text, n, c.p < c.end && !guard};
    uint32_t index = r->chunk.n;
    vec_push(&e->cx->scratch, &r->chunk, chunk);
    if (!chunk.code) return;
    visit_words(e, &chunk, add_definition, &index);
    add_listed(e, &chunk, index);
}

static void split_file(Emit *e, const char *text) {
    const char *start = text;
    Cursor c = {text, text + strlen(text), 0};
    while (c.p < c.end) {
        c.p = skip_quiet(c.p, c.end);
        if (c.p >= c.end) break;
        if (c.p[0] == '\n' && c.p[1] == '\n' && c.depth == 0) {
            add_chunk(e, start, (size_t)(c.p + 1 - start));
            while (*c.p == '\n') c.p++;
            start = c.p;
            continue;
        }
        c.depth += bracket(*c.p);
        c.p++;
    }
    if (start < c.end) add_chunk(e, start, (size_t)(c.end - start));
}

static struct RuntimeIndex *index_of(Emit *e) {
    if (e->runtime != NULL) return e->runtime;
    e->runtime = ARENA_NEW(&e->cx->scratch, struct RuntimeIndex);
    for (unsigned i = 0; i < runtime_file_count; i++) split_file(e, runtime_files[i].text);
    e->runtime->emitted = ARENA_ARRAY(&e->cx->scratch, bool, e->runtime->chunk.n + 1);
    return e->runtime;
}

static bool owner_of(struct RuntimeIndex *r, Str name, uint32_t *chunk) {
    for (uint32_t i = 0; i < r->name.n; i++) {
        if (r->name.v[i] != name) continue;
        *chunk = r->owner.v[i];
        return true;
    }
    return false;
}

static void need_word(Emit *e, Str word, bool declared, void *user);

static void emit_chunk(Emit *e, uint32_t i) {
    struct RuntimeIndex *r = e->runtime;
    if (r->emitted[i]) return;
    r->emitted[i] = true;
    visit_words(e, &r->chunk.v[i], need_word, &i);
    cw_text(&e->helpers, r->chunk.v[i].text, r->chunk.v[i].n);
    cw_printf(&e->helpers, "\n");
}

static void need_word(Emit *e, Str word, bool declared, void *user) {
    uint32_t chunk;
    (void)declared, (void)user;
    if (owner_of(e->runtime, word, &chunk)) emit_chunk(e, chunk);
}

void emit_need(Emit *e, const char *name) {
    struct RuntimeIndex *r = index_of(e);
    uint32_t chunk;
    CHECK(e->cx, owner_of(r, str_intern(e->cx, name), &chunk)); /* a lowering rule names a function that runtime/ lacks */
    emit_chunk(e, chunk);
}
