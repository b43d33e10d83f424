/* A program around one kernel: main ARGUMENTS RESULT. It reads the kernel's arguments from a file, calls the kernel, and
 * writes its last argument, the result, with the bytes around it.
 *
 * ARGUMENTS: int32 count, then for each argument int32 code, bits, rank, skew, guard and int64 shape[rank], all as the
 * machine has them; then the elements of each but the last. skew: bytes from an address that is aligned to 64; guard:
 * bytes on each side of the result, which begin as 0xFF like the result itself.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tvm/ffi/c_api.h>

extern int tesa_candidate(void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result);

/* What a kernel asks of TVM's runtime: memory, loops in serial order, and a place for its errors. */
typedef struct {
  void *sync;
  int32_t num_task;
} Group;
typedef int (*Task)(int, Group *, void *);

static int launch(Task task, void *data, int count) {
  Group group = {0, count > 0 ? count : 1};
  for (int i = 0; i < group.num_task; i++)
    if (task(i, &group, data)) return -1;
  return 0;
}
static int barrier(int task, Group *group) { return (void)task, (void)group, 0; }
static void *allocate(int type, int id, uint64_t bytes, int code, int bits) {
  (void)type, (void)id, (void)code, (void)bits;
  return aligned_alloc(64, (bytes + 127) / 64 * 64);
}
static int release(int type, int id, void *pointer) { return (void)type, (void)id, free(pointer), 0; }

int (*__TVMBackendParallelLaunch)(Task, void *, int) = launch;
int (*__TVMBackendParallelBarrier)(int, Group *) = barrier;
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = allocate;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = release;

void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) { fprintf(stderr, "%s: %s\n", kind, message); }
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  fprintf(stderr, "%s: ", kind);
  for (int i = 0; i < count; i++) fputs(parts[i] ? parts[i] : "", stderr);
  fputc('\n', stderr);
}

enum { MOST = 64, RANK = 8 };

static void need(int held, const char *what) {
  if (held) return;
  fprintf(stderr, "%s\n", what);
  exit(2);
}

int main(int words, char **names) {
  static DLTensor tensors[MOST];
  static int64_t shapes[MOST][RANK];
  static TVMFFIAny given[MOST];
  char *begin[MOST];
  size_t bytes[MOST];
  int32_t count, facts[MOST][5];
  need(words == 3, "usage: main ARGUMENTS RESULT");
  FILE *file = fopen(names[1], "rb");
  need(file && fread(&count, sizeof count, 1, file) == 1 && count > 0 && count <= MOST, "cannot read the arguments");
  for (int i = 0; i < count; i++) {
    need(fread(facts[i], sizeof facts[i], 1, file) == 1 && facts[i][2] <= RANK, "an argument is cut off");
    need(fread(shapes[i], sizeof(int64_t), (size_t)facts[i][2], file) == (size_t)facts[i][2], "a shape is cut off");
  }
  for (int i = 0; i < count; i++) {
    int32_t code = facts[i][0], bits = facts[i][1], rank = facts[i][2], skew = facts[i][3], guard = facts[i][4];
    bytes[i] = (size_t)bits / 8;
    for (int axis = 0; axis < rank; axis++) bytes[i] *= (size_t)shapes[i][axis];
    size_t whole = bytes[i] + 2 * (size_t)guard + (size_t)skew;
    char *room = aligned_alloc(64, (whole + 127) / 64 * 64);
    need(room != NULL, "no memory");
    begin[i] = room + skew;
    char *data = begin[i] + guard;
    memset(begin[i], 0xFF, bytes[i] + 2 * (size_t)guard);
    if (i < count - 1) need(fread(data, 1, bytes[i], file) == bytes[i], "the elements of an argument are cut off");
    tensors[i] = (DLTensor){data, {kDLCPU, 0}, rank, {(uint8_t)code, (uint8_t)bits, 1}, shapes[i], NULL, 0};
    given[i].type_index = kTVMFFIDLTensorPtr;
    given[i].v_ptr = &tensors[i];
  }
  TVMFFIAny nothing = {0};
  if (tesa_candidate(NULL, given, count, &nothing)) return 3;
  FILE *result = fopen(names[2], "wb");
  size_t size = bytes[count - 1] + 2 * (size_t)facts[count - 1][4];
  need(result && fwrite(begin[count - 1], 1, size, result) == size && !fclose(result), "cannot write the result");
  return 0;
}
