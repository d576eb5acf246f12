/* Build tool: turns files into one C file of byte arrays, so that the library carries the sources of runtime/.
 *     embed_files OUT.c runtime/math_f32.h runtime/packed.h … */
#include <stdio.h>
#include <string.h>

static int embed(FILE *out, const char *path, int number) {
    FILE *in = fopen(path, "rb");
    if (in == NULL) return 1;
    fprintf(out, "static const char file%d[] = {", number);
    int c, column = 0;
    while ((c = getc(in)) != EOF) fprintf(out, "%s%d,", column++ % 24 == 0 ? "\n    " : " ", c < 128 ? c : '?');
    fprintf(out, "\n    0};\n");
    return fclose(in);
}

int main(int argc, char **argv) {
    FILE *out = argc > 1 ? fopen(argv[1], "wb") : NULL;
    if (out == NULL) return 1;
    int failed = 0;
    fprintf(out, "#include \"codegen/runtime_text.h\"\n\n");
    for (int i = 2; i < argc; i++) failed |= embed(out, argv[i], i - 2);
    fprintf(out, "\nconst RuntimeFile runtime_files[] = {\n");
    for (int i = 2; i < argc; i++) {
        const char *slash = strrchr(argv[i], '/');
        fprintf(out, "    {\"%s\", file%d},\n", slash != NULL ? slash + 1 : argv[i], i - 2);
    }
    fprintf(out, "};\nconst unsigned runtime_file_count = %d;\n", argc - 2);
    failed |= fclose(out);
    if (failed) remove(argv[1]);
    return failed;
}
