/* Trains models/demo/fashion.onnx a few steps, then writes a checkpoint, an input, and what the trained model makes of it:
 *
 *     onnx_harness FOLDER      FOLDER/net.safetensors, FOLDER/input_0.pb, FOLDER/output_0.pb */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"

enum { N = 8, PIXELS = 784, CLASSES = 10 };

static unsigned char arena[NET_ARENA_BYTES] __attribute__((aligned(64))), state[NET_STATE_BYTES] __attribute__((aligned(64)));

static int put(void *file, const void *bytes, size_t n) { return fwrite(bytes, 1, n, (FILE *)file) != n; }

static void varint(FILE *f, size_t x) {
    for (; x > 127; x >>= 7) fputc((int)(x & 127) | 128, f);
    fputc((int)x, f);
}

/* A TensorProto: dims, data_type float, raw_data. */
static int write_tensor(const char *folder, const char *name, int rank, const int *dim, const float *data) {
    char path[1024];
    size_t bytes = sizeof *data;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (f == NULL) return 1;
    for (int i = 0; i < rank; i++) {
        fputc(8, f);
        varint(f, (size_t)dim[i]);
        bytes *= (size_t)dim[i];
    }
    fputc(16, f);
    fputc(1, f);
    fputc(74, f);
    varint(f, bytes);
    fwrite(data, 1, bytes, f);
    return fclose(f) != 0;
}

int main(int argc, char **argv) {
    static float image[N * PIXELS], probability[N * CLASSES];
    int64_t target[N];
    float loss = 0, before = 0;
    net_ctx c;
    char path[1024];
    if (argc != 2) return 2;
    for (int i = 0; i < N * PIXELS; i++) image[i] = (float)(i * 7919 % 1009) / 1009.0f;
    for (int i = 0; i < N; i++) target[i] = i % CLASSES;
    int code = net_init(&c, arena, sizeof arena, state, sizeof state, NULL, 0, 1);
    const net_inputs in = {.image = image, .target = target, .N = N};
    const net_outputs out = {.probability = probability, .loss = &loss};
    for (int s = 0; s < 8 && code == NET_OK; s++) {
        code = net_train_step(&c, &in, &out);
        if (s == 0) before = loss;
    }
    if (code == NET_OK) code = net_predict(&c, &in, &out);
    if (code != NET_OK) return printf("%s\n", net_error(code)), 1;
    printf("loss %.4f, after seven steps %.4f\n", (double)before, (double)loss);
    snprintf(path, sizeof path, "%s/net.safetensors", argv[1]);
    FILE *f = fopen(path, "wb");
    if (f == NULL || net_save(&c, put, f) != NET_OK || fclose(f) != 0) return 1;
    return write_tensor(argv[1], "input_0.pb", 4, (const int[]){N, 1, 28, 28}, image) || write_tensor(argv[1], "output_0.pb", 2, (const int[]){N, CLASSES}, probability) || loss >= before;
}
