/* Trains week 12's character GPT on kjv.txt; the last tenth of the text is for testing. Writes chargpt.safetensors, and rows of text as
 * .npy files: chargpt_calibrate/ids.npy from the training part, chargpt_test/ids.npy from the other. */
#include "chargpt.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host.h"

enum { BATCH = 32, ROW = 65, CALIBRATE = 128, TEST = 256 };

typedef struct Text { unsigned char *character; long n; } Text;

static Text read_text(const Host *h) {
    char path[1024];
    snprintf(path, sizeof path, "%s/kjv.txt", h->data);
    FILE *f = fopen(path, "rb");
    host_require(f != NULL, "%s cannot be read", path);
    fseek(f, 0, SEEK_END);
    Text t = {.n = ftell(f)};
    rewind(f);
    t.character = malloc((size_t)t.n);
    host_require(t.n > 100000 && t.character != NULL && fread(t.character, 1, (size_t)t.n, f) == (size_t)t.n, "%s is too short", path);
    fclose(f);
    for (long i = 0; i < t.n; i++) t.character[i] &= 127;
    return t;
}

static void copy_row(const Text *t, long at, int64_t *to) {
    for (int i = 0; i < ROW; i++) to[i] = t->character[at + i];
}

static void write_rows(const Host *h, const char *folder, const int64_t *ids, int n) {
    char path[1024], text[128];
    snprintf(path, sizeof path, "%s/chargpt_%s", h->out, folder);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/chargpt_%s/ids.npy", h->out, folder);
    FILE *f = fopen(path, "wb");
    host_require(f != NULL, "%s cannot be written", path);
    int length = snprintf(text, sizeof text, "{'descr': '<i8', 'fortran_order': False, 'shape': (%d, %d), }", n, ROW);
    fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, f);
    fprintf(f, "%s%*s\n", text, 117 - length, "");
    fwrite(ids, sizeof *ids, (size_t)n * ROW, f);
    fclose(f);
}

static int to_file(void *user, const void *bytes, size_t n) { return fwrite(bytes, 1, n, user) == n ? 0 : 1; }

/* Mean loss over rows of the test part, BATCH at a time. */
static double test_loss(chargpt_ctx *c, const int64_t *rows, float *loss, int *code) {
    double sum = 0;
    for (int i = 0; i < TEST && *code == CHARGPT_OK; i += BATCH) {
        *code = chargpt_evaluate(c, &(chargpt_inputs){.ids = rows + i * ROW, .N = BATCH}, &(chargpt_outputs){.loss = loss});
        sum += (double)*loss * BATCH / TEST;
    }
    return sum;
}

int main(int argc, char **argv) {
    Host h = host_start("chargpt", argc, argv);
    Text t = read_text(&h);
    long trained = t.n / 10 * 9;
    static int64_t ids[BATCH * ROW], rows[TEST * ROW];
    int steps = h.quick ? 300 : 1500;
    float loss;
    chargpt_ctx c;
    int code = chargpt_init(&c, host_memory(CHARGPT_ARENA_BYTES), CHARGPT_ARENA_BYTES, host_memory(CHARGPT_STATE_BYTES), CHARGPT_STATE_BYTES, NULL, 0, 1);
    for (int s = 0; s < steps && code == CHARGPT_OK; s++) {
        for (int i = 0; i < BATCH; i++) copy_row(&t, (long)(host_uniform(&h) * (double)(trained - ROW)), ids + i * ROW);
        code = chargpt_train_step(&c, &(chargpt_inputs){.ids = ids, .N = BATCH}, &(chargpt_outputs){.loss = &loss});
        host_point(&h, "loss", s, (double)loss);
        if (s % 20 == 19) host_progress(&h, s + 1, steps, "loss %.4f", (double)loss);
    }
    for (int i = 0; i < CALIBRATE; i++) copy_row(&t, trained / CALIBRATE * i, rows + i * ROW);
    write_rows(&h, "calibrate", rows, CALIBRATE);
    for (int i = 0; i < TEST; i++) copy_row(&t, trained + (t.n - trained - ROW) / TEST * i, rows + i * ROW);
    write_rows(&h, "test", rows, TEST);
    double test = code == CHARGPT_OK ? test_loss(&c, rows, &loss, &code) : 0;
    host_require(code == CHARGPT_OK, "%s", chargpt_error(code));
    FILE *f = fopen(host_path(&h, ".safetensors"), "wb");
    host_require(f != NULL && chargpt_save(&c, to_file, f) == CHARGPT_OK, "%s cannot be written", host_path(&h, ".safetensors"));
    fclose(f);
    host_bar(&h, test < 1.6, "%.4f nats per character on text it has not seen, less than 1.6 is expected", test);
    return host_end(&h);
}
