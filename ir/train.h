/* What the user asked to train, from lathe_train until passes/train.c has turned it into nodes, states and entries. */
#ifndef LATHE_IR_TRAIN_H
#define LATHE_IR_TRAIN_H
#include "ir/state.h"

typedef struct TrainPart { Value *loss; LatheOptimizer o; } TrainPart; /* one call of lathe_train; texts and lists are copies */
/* A constant that may be trained. stored: its contents are its first values; else NAME_init draws them by `init`. */
typedef struct TrainCandidate { Value *value; LatheInit init; bool stored; } TrainCandidate;
typedef struct TrainSpec {
    VEC(TrainPart) part;
    VEC(TrainCandidate) candidate; /* none: every named floating-point constant of two or more elements */
} TrainSpec;

#endif
