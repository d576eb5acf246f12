/* Prints docs/ops.md from ir/ops.def: every operator, how it is compiled, whether it has a gradient. `ninja docs` writes it into
 * the source tree; the test docs.ops tells when it is out of date. */
#include <stdio.h>
#include <string.h>

#include "ir/graph.h"

typedef struct Row { const char *expand, *grad, *define, *lower; } Row;

static const Row rows[OP_COUNT] = {
#define OP(name, domain, in_min, in_max, out_min, out_max, flags, shape, expand, grad, define, lower) [OP_##name] = {#expand, #grad, #define, #lower},
#define ATTR(op, name, kind, def)
#include "ir/ops.def"
#undef OP
#undef ATTR
};

static bool given(const char *rule) { return strcmp(rule, "none") != 0; }

static const char *how(Op op, const Row *r) {
    if (given(r->define)) return "element by element";
    if (given(r->lower)) return "own loops";
    if (given(r->expand)) return "by simpler operators";
    return op_refusal(op) != NULL ? "**no**" : "by a pass";
}

static const char *gradient(const char *rule) {
    static const char *const said[][2] = {{"none", "no"}, {"zero", "zero"}, {"expansion", "by simpler operators"}, {"missing", "**missing**"}};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        if (strcmp(rule, said[i][0]) == 0) return said[i][1];
    return "yes";
}

static void print_count(uint32_t min, uint32_t max) {
    if (min == max) printf("%u", min);
    else if (max == MANY) printf("%u…", min);
    else printf("%u–%u", min, max);
}

static void print_attributes(Op op) {
    const OpInfo *info = op_info(op);
    for (uint32_t i = 0; i < op_attr_count(op); i++) {
        const AttrInfo *a = attr_info((AttrSlot)(info->attr_first + i));
        printf("%s%s", i != 0 ? ", " : "", a->name);
        if (strcmp(a->def, "!") == 0) printf("*");
        else if (a->def[0] != 0) printf(" = %s", a->def);
    }
}

static void print_notes(Op op, uint32_t flags) {
    const char *between = "";
    if (op_refusal(op) != NULL) {
        printf("%s", op_refusal(op));
        return;
    }
    if (flags & OPF_DYNSHAPE) printf("%ssize depends on data", between), between = "; ";
    if (flags & OPF_RANDOM) printf("%srandom", between), between = "; ";
    if (flags & OPF_REGION) printf("%sholds graphs", between), between = "; ";
    if (flags & OPF_VIEW) printf("%smoves elements only", between);
}

static void print_domain(OpDomain domain, const char *title) {
    printf("\n## %s\n\n| operator | inputs | outputs | attributes (* required) | compiled | gradient | notes |\n|---|---|---|---|---|---|---|\n", title);
    for (Op op = OP_NONE + 1; op < OP_COUNT; op++) {
        const OpInfo *info = op_info(op);
        if (info->domain != domain) continue;
        printf("| %s | ", op_name(op));
        print_count(info->in_min, info->in_max);
        printf(" | ");
        print_count(info->out_min, info->out_max);
        printf(" | ");
        print_attributes(op);
        printf(" | %s | %s | ", how(op, &rows[op]), gradient(rows[op].grad));
        print_notes(op, info->flags);
        printf(" |\n");
    }
}

int main(void) {
    uint32_t n = 0, compiled = 0, missing = 0;
    for (Op op = OP_NONE + 1; op < OP_COUNT; op++) {
        if (op_info(op)->domain == DOMAIN_LATHE) continue;
        n++;
        compiled += op_refusal(op) == NULL;
        missing += strcmp(rows[op].grad, "missing") == 0;
    }
    printf("# Operators\n\nMade from `ir/ops.def` by `ninja docs`; do not edit. Operators stand in their newest form (ai.onnx opset 28): models of older\n"
           "opsets are rewritten while they are read (`frontend/upgrade.def`). %u of %u are compiled; a model that has\n"
           "one of the others is refused, with all such nodes in one message, and the notes say what to do instead.\n\n"
           "Gradient: \"yes\" has a rule of its own, \"by simpler operators\" is differentiated as what it expands to, \"zero\" is constant almost everywhere,\n"
           "\"no\" is not differentiable. %u are differentiable without a rule so far (\"missing\"): a gradient through them is refused by name.\n",
           compiled, n, missing);
    print_domain(DOMAIN_ONNX, "ai.onnx");
    print_domain(DOMAIN_ML, "ai.onnx.ml");
    print_domain(DOMAIN_MICROSOFT, "com.microsoft");
    print_domain(DOMAIN_TRAINING, "ai.onnx.preview.training");
    print_domain(DOMAIN_PREVIEW, "ai.onnx.preview");
    print_domain(DOMAIN_LATHE, "lathe's own, made by passes");
    return 0;
}
