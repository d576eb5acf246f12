/* Words of C text outside of comments, strings and character constants: for what looks for names in code that is to be emitted. */
#ifndef LATHE_CODEGEN_WORDS_H
#define LATHE_CODEGEN_WORDS_H
#include <stdbool.h>
#include <stddef.h>

bool word_char(char c);                                       /* letters, digits, _ */
size_t word_length(const char *p, const char *end);           /* 0: no word begins here */
bool word_is_ours(const char *word, size_t n);                /* lathe_… or LATHE_… */
const char *skip_quiet(const char *p, const char *end);       /* behind the comments, strings and character constants that begin at p */

#endif
