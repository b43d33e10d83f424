/* One sparse layer as a C function, with all that it was given checked first: y = relu(W x).

     one_layer    runs it on ones, then on what it refuses, and prints what it answers */

#include <stdio.h>
#include <string.h>

#include "layer.h"

/* The arena may be any memory: here it is the program's own, of more than enough to find an aligned place in it. */
static unsigned char memory[LAYER_ARENA_BYTES + LAYER_ARENA_ALIGNMENT];

int main(void) {
    static float x[1024], y[1024]; /* of any size that is large enough for this layer */
    uintptr_t start = ((uintptr_t)memory + LAYER_ARENA_ALIGNMENT - 1) / LAYER_ARENA_ALIGNMENT * LAYER_ARENA_ALIGNMENT;
    void *arena = (void *)start;
    tesa_tensor input = *layer_input(0, 0), output = *layer_output(0, 0);
    const int64_t wrong_shape[] = {3, 3};
    size_t count = (size_t)(output.bytes / sizeof *y), i;
    double sum = 0;
    int status;
    if (input.bytes > sizeof x || output.bytes > sizeof y) return 1;
    for (i = 0; i < sizeof x / sizeof *x; ++i) x[i] = 1;
    input.data = x;
    output.data = y;
    status = layer_call(&input, 1, &output, 1, arena, LAYER_ARENA_BYTES, NULL, NULL);
    if (status != TESA_OK) {
        fprintf(stderr, "%s\n", layer_error(status));
        return 1;
    }
    for (i = 0; i < count; ++i) sum += y[i];
    printf("%.6g\n", sum);

    printf("%s\n", layer_error(layer_call(&input, 2, &output, 1, arena, LAYER_ARENA_BYTES, NULL, NULL)));
    printf("%s\n", layer_error(layer_call(&input, 1, &output, 1, arena, LAYER_ARENA_BYTES - 1, NULL, NULL)));
    printf("%s\n", layer_error(layer_call(&input, 1, &output, 1, NULL, LAYER_ARENA_BYTES, NULL, NULL)));
    printf("%s\n", layer_error(layer_call(&input, 1, &output, 1, (void *)(start + 4), LAYER_ARENA_BYTES, NULL, NULL)));
    input.type = TESA_INT32;
    printf("%s\n", layer_error(layer_call(&input, 1, &output, 1, arena, LAYER_ARENA_BYTES, NULL, NULL)));
    input = *layer_input(0, 0);
    input.data = x;
    input.rank = 2;
    input.shape = wrong_shape;
    printf("%s\n", layer_error(layer_call(&input, 1, &output, 1, arena, LAYER_ARENA_BYTES, NULL, NULL)));
    input = *layer_input(0, 0);
    input.data = (unsigned char *)x + 1;
    printf("%s\n", layer_error(layer_call(&input, 1, &output, 1, arena, LAYER_ARENA_BYTES, NULL, NULL)));
    input.data = x;
    output.bytes -= 1;
    printf("%s\n", layer_error(layer_call(&input, 1, &output, 1, arena, LAYER_ARENA_BYTES, NULL, NULL)));
    return 0;
}
