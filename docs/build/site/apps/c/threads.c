/* The same network from several threads: each has an arena of its own, and the code has no state.

     threads THREADS CALLS        prints the sum of the results of each thread, and on standard error the time of a call */

#define _POSIX_C_SOURCE 200112L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "digits.h"

#define PIXELS (64 * 64)
#define DIGITS 10
#define MOST 64

static int calls;

struct worker {
    pthread_t thread;
    double sum;
    int status;
};

static void *work(void *data) {
    struct worker *self = data;
    float *image = malloc(PIXELS * sizeof *image), logits[DIGITS];
    void *arena = NULL;
    int call, i;
    self->status = TESA_NULL;
    if (image != NULL && posix_memalign(&arena, DIGITS_ARENA_ALIGNMENT, DIGITS_ARENA_BYTES) == 0) {
        for (i = 0; i < PIXELS; ++i) image[i] = 1;
        self->status = TESA_OK;
        for (call = 0; call < calls && self->status == TESA_OK; ++call) {
            self->status = digits_run(image, logits, arena);
        }
        self->sum = 0;
        for (i = 0; i < DIGITS; ++i) self->sum += logits[i];
    }
    free(arena);
    free(image);
    return NULL;
}

static double now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e3 * (double)time.tv_sec + 1e-6 * (double)time.tv_nsec;
}

int main(int count, char **words) {
    static struct worker workers[MOST];
    int number, threads = count == 3 ? atoi(words[1]) : 0;
    double start;
    calls = count == 3 ? atoi(words[2]) : 0;
    if (threads < 1 || threads > MOST || calls < 1) {
        fprintf(stderr, "usage: threads THREADS CALLS      (THREADS up to %d)\n", MOST);
        return 2;
    }
    start = now_ms();
    for (number = 0; number < threads; ++number) {
        if (pthread_create(&workers[number].thread, NULL, work, &workers[number]) != 0) {
            fprintf(stderr, "cannot start thread %d\n", number);
            return 1;
        }
    }
    for (number = 0; number < threads; ++number) pthread_join(workers[number].thread, NULL);
    fprintf(stderr, "%.4f ms a call, of %d at once\n", (now_ms() - start) / calls, threads);
    for (number = 0; number < threads; ++number) {
        if (workers[number].status != TESA_OK) {
            fprintf(stderr, "%s\n", digits_error(workers[number].status));
            return 1;
        }
        printf("%.6g\n", workers[number].sum);
    }
    return 0;
}
