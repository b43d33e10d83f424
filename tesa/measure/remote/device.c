/* What tesa sends to a device beside a kernel. The functions are called through TVM's runtime, as kernels are, so that
 * any RPC server can run them: the device needs nothing of tesa.
 *
 * tesa_candidate is the kernel under test, named by the linker; without one it is null.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <tvm/ffi/c_api.h>

#define EXPORT __attribute__((visibility("default")))
#define ARGUMENTS __attribute__((unused)) void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result

extern __attribute__((weak)) int tesa_candidate(ARGUMENTS);

static DLTensor *tensor(const TVMFFIAny *arg) {
  if (arg->type_index == kTVMFFITensor) return (DLTensor *)((char *)arg->v_obj + sizeof(TVMFFIObject));
  return (DLTensor *)arg->v_ptr;
}

static char *data(const DLTensor *t) { return (char *)t->data + t->byte_offset; }

static size_t bytes(const DLTensor *t) {
  size_t size = (size_t)t->dtype.bits * t->dtype.lanes / 8;
  for (int i = 0; i < t->ndim; i++) size *= (size_t)t->shape[i];
  return size;
}

static int give(TVMFFIAny *result, int64_t value) {
  result->type_index = kTVMFFIInt;
  result->zero_padding = 0;
  result->v_int64 = value;
  return 0;
}

static int refuse(const char *message) {
  TVMFFIErrorSetRaisedFromCStr("RuntimeError", message);
  return -1;
}

/* The known-good check. (A, B, Y): Y = A B, square float32 matrices of small whole numbers: every result is exact. */
EXPORT int __tvm_ffi_tesa_known(ARGUMENTS) {
  if (count != 3) return refuse("tesa_known takes A, B and Y");
  const float *a = (const float *)data(tensor(args)), *b = (const float *)data(tensor(args + 1));
  float *y = (float *)data(tensor(args + 2));
  int64_t n = tensor(args + 2)->shape[0];
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++) {
      float sum = 0;
      for (int64_t k = 0; k < n; k++) sum += a[i * n + k] * b[k * n + j];
      y[i * n + j] = sum;
    }
  return give(result, 0);
}

/* The first line of a file, at most size - 1 bytes of it; "" where there is none. */
static const char *first_line(const char *path, char *text, int size) {
  FILE *file = fopen(path, "r");
  if (!file || !fgets(text, size, file)) text[0] = 0;
  if (file) fclose(file);
  text[strcspn(text, "\n")] = 0;
  return text;
}

/* (room): what machine this is as text, lines "name=value", then an empty line and the start of /proc/cpuinfo.
 * kernel and bus are what the system tells of the real machine even to a program that is emulated on another one.
 * Gives the number of bytes. */
EXPORT int __tvm_ffi_tesa_about(ARGUMENTS) {
  if (count != 1) return refuse("tesa_about takes a tensor of bytes");
  char *room = data(tensor(args));
  size_t size = bytes(tensor(args));
  struct utsname name;
  TVMFFIVersion version;
  cpu_set_t cores;
  if (uname(&name)) strcpy(name.machine, "unknown");
  TVMFFIGetVersion(&version);
  CPU_ZERO(&cores);
  int usable = sched_getaffinity(0, sizeof cores, &cores) ? (int)sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&cores);
  char kernel[64], bus[64];
  int used = snprintf(room, size, "machine=%s\nhost=%s\ncores=%d\ntvm_ffi=%u.%u.%u\nkernel=%s\nbus=%s\n\n",
                      name.machine, name.nodename, usable, version.major, version.minor, version.patch,
                      first_line("/proc/sys/kernel/arch", kernel, sizeof kernel),
                      first_line("/sys/devices/system/cpu/modalias", bus, sizeof bus));
  if (used < 0 || (size_t)used >= size) return refuse("tesa_about: the tensor is too small");
  FILE *file = fopen("/proc/cpuinfo", "r");
  if (file) {
    used += (int)fread(room + used, 1, size - (size_t)used, file);
    fclose(file);
  }
  return give(result, used);
}

/* Keep this thread off the cores that TVM has bound its workers to: beside one, it would take half of its time. */
EXPORT int __tvm_ffi_tesa_leave_workers(ARGUMENTS) {
  cpu_set_t mine, other;
  DIR *tasks = opendir("/proc/self/task");
  (void)args, (void)count;
  if (!tasks || sched_getaffinity(0, sizeof mine, &mine)) return give(result, 0);
  for (struct dirent *entry; (entry = readdir(tasks));) {
    int thread = atoi(entry->d_name);
    if (thread <= 0 || thread == getpid()) continue;
    if (sched_getaffinity(thread, sizeof other, &other) || CPU_COUNT(&other) != 1) continue;
    for (int core = 0; core < CPU_SETSIZE; core++)
      if (CPU_ISSET(core, &other)) CPU_CLR(core, &mine);
  }
  closedir(tasks);
  if (CPU_COUNT(&mine)) sched_setaffinity(0, sizeof mine, &mine);
  return give(result, CPU_COUNT(&mine));
}

/* The arguments of the kernel: calls it with its result between guards, at an address that is aligned to 16 bytes only,
 * and filled with bytes of ones. Gives 0, or 1 where it wrote outside of its result. */
EXPORT int __tvm_ffi_tesa_check(ARGUMENTS) {
  enum { GUARD = 512, MOST = 64 };
  if (!tesa_candidate) return refuse("tesa_check: no kernel was linked in");
  if (count < 1 || count > MOST) return refuse("tesa_check: too many arguments");
  DLTensor *y = tensor(args + count - 1);
  size_t size = bytes(y);
  unsigned char *whole = malloc(size + 2 * GUARD + 64);
  if (!whole) return refuse("tesa_check: no memory");
  unsigned char *room = whole + (64 - (uintptr_t)whole % 64) % 64;
  unsigned char *start = room + GUARD - 48, *end = start + size, *last = whole + size + 2 * GUARD + 64;
  memset(whole, 0xFF, (size_t)(last - whole));
  DLTensor guarded = *y;
  guarded.data = start;
  guarded.byte_offset = 0;
  TVMFFIAny given[MOST];
  memcpy(given, args, sizeof *args * (size_t)count);
  memset(&given[count - 1], 0, sizeof *given);
  given[count - 1].type_index = kTVMFFIDLTensorPtr;
  given[count - 1].v_ptr = &guarded;
  TVMFFIAny nothing;
  memset(&nothing, 0, sizeof nothing);
  int failed = tesa_candidate(NULL, given, count, &nothing);
  int outside = 0;
  for (unsigned char *p = whole; p < start; p++) outside |= *p != 0xFF;
  for (unsigned char *p = end; p < last; p++) outside |= *p != 0xFF;
  if (!failed) memcpy(data(y), start, size);
  free(whole);
  return failed ? failed : give(result, outside);
}

static int64_t nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static uint64_t touch(const DLTensor *t) {
  uint64_t sum = 0;
  const uint64_t *word = (const uint64_t *)data(t), *end = word + bytes(t) / sizeof sum;
  while (word < end) sum += *word++;
  return sum;
}

/* A number at the start of a file of the system's, "32M" as bytes, or 0; a word: 0, and text has its start. */
static int64_t number_in(const char *folder, int index, const char *name, char text[16]) {
  char path[128];
  snprintf(path, sizeof path, "%s/index%d/%s", folder, index, name);
  FILE *file = fopen(path, "r");
  memset(text, 0, 16);
  if (!file) return 0;
  size_t got = fread(text, 1, 15, file);
  fclose(file);
  char *unit = text;
  int64_t value = got ? strtoll(text, &unit, 10) : 0;
  return value * (*unit == 'K' ? 1 << 10 : *unit == 'M' ? 1 << 20 : 1);
}

/* (sizes): int64, two of them: bytes of the second cache of a core and of the last one, 0 where Linux does not tell. */
EXPORT int __tvm_ffi_tesa_caches(ARGUMENTS) {
  static const char folder[] = "/sys/devices/system/cpu/cpu0/cache";
  if (count != 1 || bytes(tensor(args)) != 2 * sizeof(int64_t)) return refuse("tesa_caches takes two numbers");
  int64_t *sizes = (int64_t *)data(tensor(args)), last = 0;
  char text[16];
  sizes[0] = sizes[1] = 0;
  for (int index = 0; index < 16; index++) {
    int64_t level = number_in(folder, index, "level", text), size = number_in(folder, index, "size", text);
    number_in(folder, index, "type", text);
    if (!level || !strncmp(text, "Instruction", 11)) continue;
    if (level == 2) sizes[0] = size;
    if (level >= last) last = level, sizes[1] = size;
  }
  return give(result, last);
}

/* (number, other, times, then the arguments of the kernel): calls it number times as in a model: before each call the
 * caches are filled with the tensor other, and X, the kernel's first argument, is read. times: nanoseconds of each
 * call, float64. Gives number. */
EXPORT int __tvm_ffi_tesa_time(ARGUMENTS) {
  if (!tesa_candidate) return refuse("tesa_time: no kernel was linked in");
  if (count < 5) return refuse("tesa_time: too few arguments");
  static __attribute__((unused)) volatile uint64_t sink;
  int64_t number = args[0].v_int64;
  const DLTensor *other = tensor(args + 1), *x = tensor(args + 3);
  double *times = (double *)data(tensor(args + 2));
  TVMFFIAny nothing;
  memset(&nothing, 0, sizeof nothing);
  memset(data(other), 1, bytes(other)); /* memory that nobody has written is one page of zeros, however much is read */
  for (int64_t i = 0; i < number; i++) {
    sink = touch(other);
    sink = touch(x);
    int64_t start = nanoseconds();
    int failed = tesa_candidate(NULL, args + 3, count - 3, &nothing);
    times[i] = (double)(nanoseconds() - start);
    if (failed) return failed;
  }
  return give(result, number);
}
