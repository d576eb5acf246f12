/* What the shape and lowering rules of operators on strings share. */
#ifndef LATHE_IR_SHAPE_TEXT_H
#define LATHE_IR_SHAPE_TEXT_H
#include "ir/graph.h"

/* Does Tokenizer n cut strings into single characters? */
bool tokenizer_by_character(const Module *m, const Node *n);

#endif
