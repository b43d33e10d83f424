/* Runs kernels one after the other on data from a file: main INPUTS RESULTS.
 *
 * Each array ends where memory that must not be touched begins, and starts behind bytes that must stay as they are. A
 * kernel that dies is reported, and the next one runs. The table `cases` and its arrays are written by programs.py.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct array {
  long start, bytes; /* in the file of inputs; start is -1 for the result */
};
struct entry {
  const char* name;
  int (*call)(char**);
  int count, repeats;
  const struct array* arrays;
};
extern const struct entry cases[];
extern const int case_count;

enum { PAGE = 65536, MOST = 64, MARK = 5000, LEFT = 0xA5 };

/* What kernels want of TVM's runtime. Parallel regions run one task after the other. */
typedef int (*task_fn)(int, void*, void*);
static int launch(task_fn task, void* data, int count) {
  struct {
    void* sync;
    int32_t tasks;
  } group = {0, count > 0 ? count : 3};
  for (int i = 0; i < group.tasks; ++i)
    if (task(i, &group, data)) return -1;
  return 0;
}
static int barrier(int id, void* group) { return 0; }
static void* allocate(int type, int id, uint64_t bytes, int code, int bits) {
  void* found = aligned_alloc(64, (bytes + 127) / 64 * 64);
  memset(found, 0xFF, bytes); /* not-a-number in all of it */
  return found;
}
static int release(int type, int id, void* pointer) {
  free(pointer);
  return 0;
}
int (*__TVMBackendParallelLaunch)(task_fn, void*, int) = launch;
int (*__TVMBackendParallelBarrier)(int, void*) = barrier;
void* (*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = allocate;
int (*__TVMBackendFreeWorkspace)(int, int, void*) = release;
void TVMFFIErrorSetRaisedFromCStrParts(const char* kind, const char** parts, int count) {
  fprintf(stderr, "%s: ", kind);
  for (int i = 0; i < count; ++i) fputs(parts[i], stderr);
  fputc('\n', stderr);
}

static sigjmp_buf escape;
static void died(int signal) { siglongjmp(escape, signal); }

static char* room(long bytes, char** begin, long* size) {
  *size = (bytes + PAGE - 1) / PAGE * PAGE;
  *begin = mmap(0, *size + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (*begin == MAP_FAILED) abort();
  mprotect(*begin, PAGE, PROT_NONE);
  mprotect(*begin + PAGE + *size, PAGE, PROT_NONE);
  memset(*begin + PAGE, LEFT, *size);
  return *begin + PAGE + *size - bytes;
}

/* What is wrong with the memory of a case after its calls, 0 for nothing. */
static const char* spoiled(const struct entry* one, char** at, char** begin, const char* inputs) {
  for (int i = 0; i < one->count; ++i) {
    for (char* byte = begin[i] + PAGE; byte < at[i]; ++byte)
      if (*(unsigned char*)byte != LEFT) return "wrote in front of an array";
    if (one->arrays[i].start >= 0 && memcmp(at[i], inputs + one->arrays[i].start, one->arrays[i].bytes))
      return "changed an input";
  }
  return 0;
}

static void run(const struct entry* one, int number, const char* inputs, FILE* results) {
  char *at[MOST], *begin[MOST];
  long size[MOST];
  const struct array* last = &one->arrays[one->count - 1];
  for (int i = 0; i < one->count; ++i) {
    at[i] = room(one->arrays[i].bytes, &begin[i], &size[i]);
    if (one->arrays[i].start >= 0) memcpy(at[i], inputs + one->arrays[i].start, one->arrays[i].bytes);
    else memset(at[i], 0xFF, one->arrays[i].bytes); /* not-a-number */
  }
  volatile int status = 0;
  int caught = sigsetjmp(escape, 1);
  if (!caught) {
    for (int i = 0; i < one->repeats && !status; ++i) {
      syscall(MARK, number, 0);
      status = one->call(at);
      syscall(MARK, number, 1);
    }
  }
  const char* wrong = caught ? strsignal(caught) : status ? "answered an error" : spoiled(one, at, begin, inputs);
  printf("%d %s\n", number, wrong ? wrong : "ok");
  fflush(stdout);
  fwrite(at[one->count - 1], 1, last->bytes, results);
  for (int i = 0; i < one->count; ++i) munmap(begin[i], size[i] + 2 * PAGE);
}

int main(int count, char** words) {
  struct stat facts;
  int file = open(words[1], O_RDONLY);
  if (count < 3 || file < 0 || fstat(file, &facts)) return 2;
  char* inputs = malloc(facts.st_size + 1);
  for (long done = 0, got; done < facts.st_size; done += got)
    if ((got = read(file, inputs + done, facts.st_size - done)) <= 0) return 2;
  FILE* results = fopen(words[2], "wb");
  for (int i = 0; i < 32; ++i)
    if (i == SIGILL || i == SIGSEGV || i == SIGBUS || i == SIGFPE || i == SIGABRT || i == SIGTRAP) signal(i, died);
  for (int i = 0; i < case_count; ++i) run(&cases[i], i, inputs, results);
  return fclose(results);
}
