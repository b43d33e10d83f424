/* Runs a model on files: run INPUT... OUTPUT..., each the bytes of one tensor. */
#include <stdio.h>
#include <stdlib.h>

#include "net.h"

static void *room(size_t bytes) {
  void *memory = NULL;
  return posix_memalign(&memory, 64, bytes + 64) ? NULL : memory;
}

int main(int argc, char **argv) {
  tesa_tensor in[NET_INPUTS + 1], out[NET_OUTPUTS + 1];
  void *arena = room(net_arena_bytes());
  char missing[512];
  FILE *file;
  int i, status;
  if (argc != 1 + NET_INPUTS + NET_OUTPUTS) return 90;
  for (i = 0; i < NET_INPUTS; ++i) {
    in[i] = *net_input(0, i);
    in[i].data = room(in[i].bytes);
    file = fopen(argv[1 + i], "rb");
    if (!file || fread(in[i].data, 1, in[i].bytes, file) != in[i].bytes) return 91;
    fclose(file);
  }
  for (i = 0; i < NET_OUTPUTS; ++i) {
    out[i] = *net_output(0, i);
    out[i].data = room(out[i].bytes);
  }
  status = net_call(in, NET_INPUTS, out, NET_OUTPUTS, arena, net_arena_bytes(), NULL, NULL);
  if (status) {
    net_missing(missing, sizeof missing);
    fprintf(stderr, "%s: %s\n", net_error(status), missing);
    return status;
  }
  for (i = 0; i < NET_OUTPUTS; ++i) {
    file = fopen(argv[1 + NET_INPUTS + i], "wb");
    if (!file || fwrite(out[i].data, 1, out[i].bytes, file) != out[i].bytes) return 92;
    fclose(file);
    free(out[i].data);
  }
  for (i = 0; i < NET_INPUTS; ++i) free(in[i].data);
  free(arena);
  return 0;
}
