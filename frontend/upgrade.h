/* Old operator versions to the newest: one node at a time, while it is imported (frontend/upgrade.def). */
#ifndef LATHE_FRONTEND_UPGRADE_H
#define LATHE_FRONTEND_UPGRADE_H
#include "frontend/onnx_import.h"

/* A node of the file on its way to the IR. Upgrade functions change it in place, or build nodes themselves and set
 * `result`. Attributes are bindings: the name may differ from the proto's. */
typedef struct RawNode {
    Importer *im;
    Scope *scope;
    Loc loc;
    const char *op;
    OpDomain domain;
    int64_t version;             /* of the domain, where the node stands */
    VEC(Value *) in;             /* NULL: left out */
    VEC(Binding) attr;
    uint32_t n_out;
    const bool *wanted;          /* per output: it has a name */
    Value **result;              /* set: the node is done, these are its outputs (NULL entries: none) */
} RawNode;

/* Applies every row for the node's operator and version, in the order of the file. False after diag(). */
bool upgrade_node(RawNode *n);
/* The IR node for n as it stands, at the end of its graph (onnx_import.c). NULL after diag(). */
Node *import_build(RawNode *n);

#endif
