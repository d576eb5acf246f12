/* The tensors a command works on: read from files or made up, matched with the model's inputs and outputs, checked. */
#ifndef LATHE_DRIVER_DATA_H
#define LATHE_DRIVER_DATA_H
#include "driver/element.h"
#include "driver/program.h"

typedef enum TensorKind { TENSOR, SEQUENCE, OPTIONAL } TensorKind;

typedef struct Tensor {
    const char *name;       /* "" when the file gives none */
    int number;             /* ONNX number of the element type */
    uint32_t rank;
    int64_t dim[LATHE_RANK_MAX];
    void *data;             /* NULL: not given */
    size_t bytes;
    /* a sequence or an optional instead: data is not NULL when it is given, the other fields above but name are unused */
    TensorKind kind;
    uint32_t n_elem;        /* of an optional 0 or 1 */
    struct Tensor *elem;
} Tensor;

typedef VEC(Tensor) Tensors;

typedef struct DataSet {
    const char *name;       /* where it came from */
    Tensor *in;             /* one per input of the model */
    Tensor *want;           /* one per output, data NULL where nothing is expected; NULL: no expectations */
} DataSet;
typedef VEC(DataSet) DataSets;

/* Reads what --input, --inputs, --expect and --data name and matches it with the model. All problems are reported at
 * once: unreadable files, unknown names, missing inputs, wrong types and shapes. No option given: an empty list. */
Exit data_read(Driver *d, const Request *r, LatheModel *m, DataSets *sets);
/* Opens the request's model just to read data for it. sizes: data_sizes of what was read. A model without inputs that is
 * given no data gets one empty set. */
Exit data_open(Driver *d, const Request *r, DataSets *sets, Sizes *sizes);
/* Random inputs for every input: floats in [-1, 1), integers in [0, int_below), booleans; every dim that is not fixed
 * is `size`, within its bounds. */
DataSet data_random(Driver *d, uint32_t n, const LatheTensorInfo *info, uint64_t seed, int64_t int_below, int64_t size);
/* What lets the model take all these sets: an unbounded symbol gets the sizes it has there as bounds, an input of open rank
 * (or a sequence whose elements have open dims) the largest shape. */
Sizes data_sizes(Driver *d, const LatheModel *m, const DataSets *sets);

/* Calibration data: every .npz of a directory is a set of inputs by name; every .npy is one for a model with one input. Data with more
 * entries along the first dim than a fixed batch takes is cut into several sets. labels.npy, if there is one, has a label per entry.
 * Everything is checked as data_read does it, and that floats are finite. An empty directory is an error. */
Exit data_calibration(Driver *d, LatheModel *m, const char *dir, DataSets *sets, Tensor *labels);

int64_t tensor_count(const Tensor *t); /* elements */

/* The arguments of program_call for one set, with memory for the outputs at their upper bounds. */
typedef struct Call {
    const Program *p;
    const void **in;
    int64_t *in_dims;
    void **out;
    int64_t *out_dims;
} Call;
Exit call_prepare(Driver *d, const Program *p, const DataSet *set, Call *c);
static inline int call_run(Program *p, int threads, const Call *c) {
    return program_call(p, threads, c->in, c->in_dims, c->out, c->out_dims);
}
/* The outputs of the last run, in the shapes it gave them; data belongs to the call. One per output of the
 * model (p->n_out_group), in d's arena. */
Tensor *call_outputs(Driver *d, const Call *c);
void call_free(Call *c);

/* Random inputs that the model runs on, and the program it was tried with (the caller frees it). */
typedef struct RandomCase {
    Program program;
    DataSet set;
    Sizes sizes;              /* the program was made with */
    const char *description;  /* "" or what was assumed, to be put behind "random inputs" */
} RandomCase;
Exit random_case(Driver *d, const Request *r, RandomCase *c);

#endif
