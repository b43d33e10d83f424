/* The digit in an image, by a compiled network that needs no runtime: C99, no allocation but the arena.

     classify image.f32 [image.f32 ...]      64 x 64 numbers of float32 each, 0 paper, 1 ink */

#include <stdio.h>
#include <stdlib.h>

#include "digits.h"

#define PIXELS (64 * 64)
#define DIGITS 10

/* Memory whose address is a multiple of the arena's alignment, in C99, which has no aligned_alloc. *whole is to be freed. */
static void *aligned(size_t bytes, void **whole) {
    *whole = malloc(bytes + DIGITS_ARENA_ALIGNMENT);
    if (*whole == NULL) return NULL;
    return (void *)(((uintptr_t)*whole + DIGITS_ARENA_ALIGNMENT - 1) / DIGITS_ARENA_ALIGNMENT * DIGITS_ARENA_ALIGNMENT);
}

static int read_image(const char *path, float *image) {
    FILE *file = fopen(path, "rb");
    int whole;
    if (file == NULL) return 0;
    whole = fread(image, sizeof *image, PIXELS, file) == PIXELS && fgetc(file) == EOF;
    fclose(file);
    return whole;
}

int main(int count, char **words) {
    static float image[PIXELS], logits[DIGITS];
    char missing[200];
    void *whole, *arena;
    int word, failed = 0;
    if (count < 2) {
        fprintf(stderr, "usage: classify image.f32 [image.f32 ...]\n");
        return 2;
    }
    if (digits_missing(missing, sizeof missing) > 0) { /* before anything of the network runs */
        fprintf(stderr, "made for %s, this CPU lacks %s\n", digits_target(), missing);
        return 1;
    }
    arena = aligned(digits_arena_bytes(), &whole);
    if (arena == NULL) {
        fprintf(stderr, "out of memory\n");
        return 1;
    }
    for (word = 1; word < count && !failed; ++word) {
        int status, digit, best = 0;
        if (!read_image(words[word], image)) {
            fprintf(stderr, "%s: expected a file of %d bytes\n", words[word], (int)sizeof image);
            failed = 1;
            continue;
        }
        status = digits_run(image, logits, arena);
        if (status != TESA_OK) {
            fprintf(stderr, "%s\n", digits_error(status));
            failed = 1;
            continue;
        }
        for (digit = 1; digit < DIGITS; ++digit) {
            if (logits[digit] > logits[best]) best = digit;
        }
        printf("%s: %d\n", words[word], best);
    }
    free(whole);
    return failed;
}
