/* Einsum: the equation and the sizes of its labels.
 *
 *     "bij,bjk->bik"    labels b i k (result), j (summed)
 *     "...ij->...ji"    the dimensions an ellipsis stands for get labels of their own, aligned at the right
 *     "ij,jk"           no arrow: the result has the labels that occur once, in alphabetical order, after any ellipsis */
#include <string.h>

#include "ir/shape/contraction.h"

enum { LETTERS = 52, MAX_LABELS = 4 * RANK_MAX };

static int letter_of(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    return -1;
}

typedef struct Term { /* one operand of the equation: letters with at most one ellipsis before position dots */
    int8_t letter[RANK_MAX];
    uint32_t n, dots;
    bool ellipsis;
} Term;

static bool bad_equation(Module *m, const Node *n, const char *what) {
    diag(m->cx, SEV_ERROR, n->loc, "equation: %s", what);
    return false;
}

/* Reads up to a comma, an arrow or the end; *p is left there. */
static bool parse_term(Module *m, const Node *n, const char **p, Term *t) {
    *t = (Term){0};
    for (; **p != 0 && **p != ',' && **p != '-'; (*p)++) {
        if (**p == ' ') continue;
        if (**p == '.') {
            if ((*p)[1] != '.' || (*p)[2] != '.' || t->ellipsis) return bad_equation(m, n, "a misplaced dot");
            t->ellipsis = true;
            t->dots = t->n;
            *p += 2;
            continue;
        }
        int l = letter_of(**p);
        if (l < 0) return bad_equation(m, n, "a character that is neither a letter nor , . - >");
        if (t->n == RANK_MAX) return bad_equation(m, n, "a term with too many letters");
        t->letter[t->n++] = (int8_t)l;
    }
    return true;
}

typedef struct Parse {
    Term *term;              /* operands */
    Term result;
    uint32_t n_ellipsis;     /* dimensions the ellipsis stands for */
    int label[LETTERS];      /* letter -> label, -1: none so far */
    uint32_t count[LETTERS]; /* occurrences among the operands */
} Parse;

static bool parse_equation(Module *m, const Node *n, Parse *e) {
    const char *p = str_text(m->cx, attr_s(n, AT_Einsum_equation));
    e->term = ARENA_ARRAY(&m->cx->scratch, Term, n->n_in);
    bool ellipsis = false;
    for (uint32_t i = 0; i < n->n_in; i++) {
        if (i != 0 && *p++ != ',') return bad_equation(m, n, "fewer terms than operands");
        if (!parse_term(m, n, &p, &e->term[i])) return false;
        const Type *t = shape_in(m, (Node *)(uintptr_t)n, i);
        if (t == NULL) return false;
        Term *s = &e->term[i];
        if (s->n > t->rank || (!s->ellipsis && s->n != t->rank)) return bad_equation(m, n, "a term whose letters do not match the operand's rank");
        if (s->ellipsis && t->rank - s->n > e->n_ellipsis) e->n_ellipsis = t->rank - s->n;
        ellipsis |= s->ellipsis;
        for (uint32_t k = 0; k < s->n; k++) e->count[s->letter[k]]++;
    }
    if (*p == ',') return bad_equation(m, n, "more terms than operands");
    if (*p == '-') {
        if (p[1] != '>') return bad_equation(m, n, "- without >");
        p += 2;
        if (!parse_term(m, n, &p, &e->result)) return false;
        if (*p != 0) return bad_equation(m, n, "text after the result's term");
        for (uint32_t k = 0; k < e->result.n; k++)
            if (e->count[e->result.letter[k]] == 0) return bad_equation(m, n, "a letter of the result that no operand has");
        return true;
    }
    e->result.ellipsis = ellipsis;
    for (int l = 0; l < LETTERS; l++)
        if (e->count[l] == 1 && e->result.n < RANK_MAX) e->result.letter[e->result.n++] = (int8_t)l;
    return true;
}

static bool give_size(Module *m, const Node *n, EinsumGeometry *g, uint32_t label, Dim d) {
    Dim one = dim_const(m->cx, 1);
    if (g->size[label] == 0 || g->size[label] == one) g->size[label] = d;
    else if (d != one) g->size[label] = shape_unify(m, (Node *)(uintptr_t)n, g->size[label], d, "sizes of one label");
    return g->size[label] != 0;
}

/* The labels of a term over a tensor of `rank` dimensions; ellipsis dimensions have labels base.. (right-aligned). */
static void label_term(const Parse *e, const Term *t, uint32_t rank, uint32_t base, uint8_t *out) {
    uint32_t dots = t->ellipsis ? rank - t->n : 0, d = 0;
    for (uint32_t k = 0; k <= t->n; k++) {
        if (t->ellipsis && k == t->dots)
            for (uint32_t i = 0; i < dots; i++) out[d++] = (uint8_t)(base + e->n_ellipsis - dots + i);
        if (k < t->n) out[d++] = (uint8_t)e->label[t->letter[k]];
    }
}

bool einsum_geometry(Module *m, const Node *n, EinsumGeometry *g) {
    Parse e = {0};
    *g = (EinsumGeometry){0};
    if (!parse_equation(m, n, &e)) return false;
    if (e.result.n + (e.result.ellipsis ? e.n_ellipsis : 0) > RANK_MAX) return bad_equation(m, n, "a result of too many dimensions");
    for (int l = 0; l < LETTERS; l++) e.label[l] = -1;
    uint32_t base = 0;
    for (uint32_t k = 0; k <= e.result.n; k++) { /* result labels in the result's order */
        if (e.result.ellipsis && k == e.result.dots) {
            base = g->n_label;
            g->n_label += e.n_ellipsis;
        }
        if (k == e.result.n) break;
        if (e.label[e.result.letter[k]] >= 0) return bad_equation(m, n, "a letter twice in the result");
        e.label[e.result.letter[k]] = (int)g->n_label++;
    }
    g->n_result = g->n_label;
    if (!e.result.ellipsis) { /* an ellipsis the result leaves out is summed */
        base = g->n_label;
        g->n_label += e.n_ellipsis;
    }
    for (uint32_t i = 0; i < n->n_in; i++)
        for (uint32_t k = 0; k < e.term[i].n; k++)
            if (e.label[e.term[i].letter[k]] < 0) e.label[e.term[i].letter[k]] = (int)g->n_label++;
    if (g->n_label > MAX_LABELS) return bad_equation(m, n, "too many labels");
    g->label = arena_array(&m->cx->scratch, n->n_in + 1u, sizeof *g->label);
    for (uint32_t i = 0; i < n->n_in; i++) {
        const Type *t = n->in[i]->type;
        label_term(&e, &e.term[i], t->rank, base, g->label[i]);
        for (uint32_t d = 0; d < t->rank; d++)
            if (!give_size(m, n, g, g->label[i][d], t->dim[d])) return false;
    }
    for (uint32_t k = 0; k < g->n_result; k++) g->label[n->n_in][k] = (uint8_t)k;
    return true;
}

bool shape_einsum(Module *m, Node *n) {
    EinsumGeometry g;
    const Type *t = shape_in(m, n, 0);
    if (t == NULL || !einsum_geometry(m, n, &g)) return false;
    shape_out(m, n, 0, t->dtype, g.n_result, g.size);
    return true;
}
