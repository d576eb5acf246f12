/* Build tool: turns files into one C file of byte arrays, so that the library carries the sources of runtime/.
 *     embed_files OUT.c runtime/math_f32.h runtime/packed.h …
 * or one file into one array of that name:
 *     embed_files --text NAME OUT.c FILE */
#include <stdio.h>
#include <string.h>

static int embed(FILE *out, const char *path) {
    FILE *in = fopen(path, "rb");
    if (in == NULL) return 1;
    int c, column = 0;
    while ((c = getc(in)) != EOF) fprintf(out, "%s%d,", column++ % 24 == 0 ? "\n    " : " ", c < 128 ? c : '?');
    fprintf(out, "\n    0};\n");
    return fclose(in);
}

static int embed_text(const char *name, const char *to, const char *path) {
    FILE *out = fopen(to, "wb");
    if (out == NULL) return 1;
    fprintf(out, "extern const char %s[];\nconst char %s[] = {", name, name);
    int failed = embed(out, path);
    failed |= fclose(out);
    if (failed) remove(to);
    return failed;
}

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "--text") == 0) return embed_text(argv[2], argv[3], argv[4]);
    FILE *out = argc > 1 ? fopen(argv[1], "wb") : NULL;
    if (out == NULL) return 1;
    int failed = 0;
    fprintf(out, "#include \"codegen/runtime_text.h\"\n\n");
    for (int i = 2; i < argc; i++) {
        fprintf(out, "static const char file%d[] = {", i - 2);
        failed |= embed(out, argv[i]);
    }
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
