/* What the main() of every model has in common: the command line.
 *
 *     mlp                        mlp.c, .h and .onnx in the current folder
 *     mlp --out DIR --name net   DIR/net.c, DIR/net.h, DIR/net.onnx
 */
#ifndef LATHE_MODELS_PROGRAM_H
#define LATHE_MODELS_PROGRAM_H
#include "lathe.h"

/* Exports m to ONNX and compiles it to C; prints diagnostics and what was made. The exit code for main(). Frees m. */
int model_program(LatheModel *m, int argc, char **argv);

/* The same for a model that is trained: build makes the network with its outputs and, if training, its losses and optimizers.
 * The ONNX file is the network; the C file has the functions that train it. */
typedef void BuildModel(LatheModel *m, bool training);
int training_program(const char *name, BuildModel *build, int argc, char **argv);

#endif
