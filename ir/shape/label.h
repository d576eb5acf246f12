/* The key and value lists of LabelEncoder, each given by one of four attributes: shared by shape rule and lowering.
 *
 *     keys_strings = ["a", "b"]   values_tensor = i16[2] {7, 9}   ->   keys {DT_STRING, 2}, values {DT_I16, 2} */
#ifndef LATHE_IR_SHAPE_LABEL_H
#define LATHE_IR_SHAPE_LABEL_H
#include "ir/graph.h"

typedef struct LabelList { const Attr *list; AttrKind kind; DType dtype; uint32_t n; } LabelList;

bool label_lists(Module *m, const Node *n, LabelList *keys, LabelList *values); /* false after a diagnostic */

#endif
