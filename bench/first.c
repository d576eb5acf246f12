/* What footprint.py builds of one lathe model: a program that runs it once, on zeros, says its peak memory and leaves. Compiled together with the emitted C,
 * which must be named `model`; IN_BYTES and OUT_BYTES are the sizes of the only input and output. */
#include "model.c"

#include <stdio.h>
#include <string.h>

static _Alignas(MODEL_ALIGN) unsigned char arena[MODEL_ARENA_BYTES + 1];
static float input[IN_BYTES / 4], output[OUT_BYTES / 4];

int main(void)
{
    model_ctx ctx;
    int code = model_init(&ctx, arena, MODEL_ARENA_BYTES, NULL, 0);
    const void *in[] = {input};
    void *out[] = {output};
    if (code == 0) code = model_call(&ctx, in, NULL, out, NULL);
    if (code != 0) fprintf(stderr, "%s\n", model_error(code));
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (strncmp(line, "VmHWM:", 6) == 0) fputs(line, stdout);
    return code != 0;
}
