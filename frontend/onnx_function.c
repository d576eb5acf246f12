/* Model-local functions: every call is replaced by a copy of the body.
 *
 *     function (alpha) f(a) => (b) { b = LeakyRelu<alpha: float = @alpha>(a) }
 *     y = f<alpha = 0.1>(x)            ->   y = LeakyRelu<alpha = 0.1>(x)
 *
 * The body gets a scope of its own that sees nothing of the caller; its inputs are bound to the caller's values, its
 * attributes to what the call gives, else to their defaults. Names of nodes are prefixed by the call's name. */
#include "frontend/onnx_import.h"

enum { CALLS_MAX = 64, INLINED_MAX = 1 << 20 };

static Str function_key(Importer *im, const char *domain, const char *name, const char *overload) {
    if (domain == NULL || strcmp(domain, "ai.onnx") == 0) domain = "";
    return str_format(im->cx, "%s\n%s\n%s", domain, name != NULL ? name : "", overload != NULL ? overload : "");
}

void index_functions(Importer *im) {
    for (size_t i = 0; i < im->model->n_functions; i++) {
        Onnx__FunctionProto *f = im->model->functions[i];
        id_map_put(&im->cx->arena, &im->functions, function_key(im, f->domain, f->name, f->overload), f);
    }
}

const Onnx__FunctionProto *find_function(const Importer *im, const Onnx__NodeProto *n) {
    if (im->functions.n == 0) return NULL;
    return id_map_get(&im->functions, function_key((Importer *)(uintptr_t)im, n->domain, n->op_type, n->overload));
}

static bool is_running(const Frame *frame, const Onnx__FunctionProto *f) {
    for (; frame != NULL; frame = frame->caller)
        if (frame->function == f) return true;
    return false;
}

/* What the call gives, then the defaults of what it does not give. */
static void bind_call(Importer *im, const Scope *scope, const Onnx__FunctionProto *f, uint32_t n_attr, const Binding *attr, Frame *frame) {
    Context *cx = im->cx;
    frame->binding = ARENA_ARRAY(&cx->arena, Binding, n_attr + f->n_attribute_proto);
    for (uint32_t i = 0; i < n_attr; i++) frame->binding[frame->n_binding++] = attr[i];
    for (size_t i = 0; i < f->n_attribute_proto; i++) {
        Str name = str_intern(cx, f->attribute_proto[i]->name != NULL ? f->attribute_proto[i]->name : "");
        bool given = false;
        for (uint32_t k = 0; k < n_attr; k++) given = given || attr[k].name == name;
        if (!given) frame->binding[frame->n_binding++] = (Binding){f->attribute_proto[i], name, scope};
    }
}

static void bind_opsets(Importer *im, const Onnx__FunctionProto *f, Frame *frame) {
    OpsetImport *o = ARENA_ARRAY(&im->cx->arena, OpsetImport, f->n_opset_import);
    for (size_t i = 0; i < f->n_opset_import; i++)
        o[i] = (OpsetImport){f->opset_import[i]->domain != NULL ? f->opset_import[i]->domain : "", f->opset_import[i]->version};
    frame->opset = o;
    frame->n_opset = (uint32_t)f->n_opset_import;
}

static bool may_expand(Importer *im, const Scope *scope, Loc loc, const Onnx__FunctionProto *f, uint32_t n_in, size_t n_out) {
    Context *cx = im->cx;
    if (is_running(scope->frame, f) || scope->frame->depth >= CALLS_MAX) {
        diag(cx, SEV_ERROR, loc, "function %s calls itself", f->name);
        return false;
    }
    if (n_in > f->n_input || n_out > f->n_output) {
        diag(cx, SEV_ERROR, loc, "%u inputs and %zu outputs, function %s has %zu and %zu", n_in, n_out, f->name, f->n_input, f->n_output);
        return false;
    }
    if (im->inlined > INLINED_MAX) {
        diag(cx, SEV_ERROR, loc, "the functions of the model expand to more than %d nodes", INLINED_MAX);
        return false;
    }
    im->inlined++;
    return true;
}

bool inline_call(Importer *im, Scope *scope, Loc loc, const Onnx__FunctionProto *f, const Onnx__NodeProto *call, uint32_t n_attr,
                 const Binding *attr, uint32_t n_in, Value *const *in, Value **out) {
    Context *cx = im->cx;
    if (!may_expand(im, scope, loc, f, n_in, call->n_output)) return false;
    Frame frame = {.caller = scope->frame, .function = f, .depth = scope->frame->depth + 1};
    frame.prefix = str_format(cx, "%s/", str_text(cx, loc.node != 0 ? loc.node : loc.op));
    bind_call(im, scope, f, n_attr, attr, &frame);
    bind_opsets(im, f, &frame);
    Scope body = {.frame = &frame, .graph = scope->graph};
    for (uint32_t i = 0; i < f->n_input; i++)
        if (f->input[i][0] != 0) scope_put(im, &body, str_intern(cx, f->input[i]), i < n_in && in[i] != NULL ? in[i] : im->absent);
    import_nodes(im, &body, f->n_node, f->node);
    for (size_t i = 0; i < call->n_output; i++) {
        if (call->output[i][0] == 0) continue;
        out[i] = scope_find(&body, str_intern(cx, f->output[i]));
        if (out[i] != NULL && out[i] != im->absent) continue;
        out[i] = NULL;
        diag(cx, SEV_ERROR, loc, "function %s does not compute its output \"%s\"", f->name, f->output[i]);
        return false;
    }
    return true;
}
