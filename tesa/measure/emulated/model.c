/* A program around one model that needs no runtime: main INPUTS OUTPUTS SIZE. It reads the elements of all inputs from a
 * file, one after the other, calls the model at one of its sizes, and writes those of the outputs. Without words it
 * says the model's digest.
 *
 * Compiled with -DMODEL=NAME and -DHEADER="NAME.h".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include HEADER

#define JOINED(a, b) a##_##b
#define OF(a, b) JOINED(a, b)
#define F(name) OF(MODEL, name)

enum { MOST = 256 };

static void need(int held, const char *what) {
  if (held) return;
  fprintf(stderr, "%s\n", what);
  exit(2);
}

static void *room(size_t bytes) {
  void *found = aligned_alloc(64, (bytes + 64) / 64 * 64);
  need(found != NULL, "no memory");
  return memset(found, 0xFF, bytes);
}

int main(int words, char **names) {
  tesa_tensor inputs[MOST], outputs[MOST];
  char missing[512];
  if (words == 1) return printf("%s\n", F(digest)()) < 0;
  need(words == 4, "usage: main INPUTS OUTPUTS SIZE");
  int32_t size = atoi(names[3]), in = F(inputs)(), out = F(outputs)();
  need(in <= MOST && out <= MOST, "too many inputs or outputs");
  if (F(missing)(missing, sizeof missing)) {
    fprintf(stderr, "the CPU lacks %s\n", missing);
    return 2;
  }
  FILE *file = fopen(names[1], "rb");
  need(file != NULL, "cannot read the inputs");
  for (int32_t i = 0; i < in; i++) {
    inputs[i] = *F(input)(size, i);
    inputs[i].data = room(inputs[i].bytes);
    need(fread(inputs[i].data, 1, inputs[i].bytes, file) == inputs[i].bytes, "the inputs are cut off");
  }
  for (int32_t i = 0; i < out; i++) {
    outputs[i] = *F(output)(size, i);
    outputs[i].data = room(outputs[i].bytes);
  }
  int status = F(call)(inputs, in, outputs, out, room(F(arena_bytes)()), F(arena_bytes)(), NULL, NULL);
  if (status) {
    fprintf(stderr, "%s\n", F(error)(status));
    return 2;
  }
  FILE *result = fopen(names[2], "wb");
  need(result != NULL, "cannot write the outputs");
  for (int32_t i = 0; i < out; i++)
    need(fwrite(outputs[i].data, 1, outputs[i].bytes, result) == outputs[i].bytes, "cannot write the outputs");
  need(!fclose(result), "cannot write the outputs");
  return 0;
}
