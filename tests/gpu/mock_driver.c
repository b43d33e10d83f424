/* A driver of pretended GPUs, with the functions that libraries of tesa call, of CUDA's or, with -DHIP, of HIP's interface.
   Memory of a device is memory of this process; what is loaded and launched goes to callbacks. */
#include <stdlib.h>
#include <string.h>

typedef int (*on_load)(const void *image, int device, int *id);
typedef int (*on_launch)(int id, const char *name, const unsigned *grid, const unsigned *block, unsigned shared, void **arguments, int device);
typedef int (*on_count)(int id, const char *name);
typedef void (*on_memory)(void *memory, size_t size, int device);
typedef struct { int id, device; char name[200]; } function;
typedef struct { const function *f; unsigned grid[3], block[3], shared; int count; void *values[64]; } node;
typedef struct { void *f; unsigned grid[3], block[3], shared; void **arguments, **extra; void *kern, *context; } node_params;
typedef struct { int count; node *nodes[4096]; } graph;
static char device_name[100] = "NVIDIA Mock(TM) 1";

static struct { on_load load; on_launch launch; on_count count; on_memory memory; int devices, sm; size_t room; } M;
static __thread int current = -1;
static char broken[64];
static int broken_code;
static struct { char *memory; size_t size; int device; } blocks[4096];
static int calls_of_graphs;

void mock_set(on_load load, on_launch launch, on_count count, on_memory memory, int devices, int sm, size_t room) {
  M.load = load, M.launch = launch, M.count = count, M.memory = memory, M.devices = devices, M.sm = sm, M.room = room;
  current = -1, *broken = 0, calls_of_graphs = 0;
}
void mock_break(const char *name, int code) { strncpy(broken, name, sizeof broken - 1), broken_code = code; }
void mock_name(const char *name) { strncpy(device_name, name, sizeof device_name - 1); }
static int tell_name(char *text, int size) { strncpy(text, device_name, size - 1); return 0; }
int mock_graphs(void) { return calls_of_graphs; }

#define BREAK if (!strcmp(broken, __func__)) return broken_code

static int allocate(void **memory, size_t size) {
  size_t used = 0;
  for (int i = 0; i < 4096; ++i) if (blocks[i].memory && blocks[i].device == current) used += blocks[i].size;
  if (M.room && used + size > M.room) return 2;
  for (int i = 0; i < 4096; ++i) if (!blocks[i].memory) {
    *memory = blocks[i].memory = aligned_alloc(256, (size + 255) / 256 * 256);
    memset(*memory, 0xff, size);
    blocks[i].size = size, blocks[i].device = current < 0 ? 0 : current;
    M.memory(*memory, size, blocks[i].device);
    return 0;
  }
  return 2;
}
static int release(void *memory) {
  for (int i = 0; i < 4096; ++i) if (blocks[i].memory == memory) { M.memory(memory, 0, blocks[i].device); free(memory); blocks[i].memory = 0; return 0; }
  return 1;
}
static int owner(int *found, const char *memory) {
  for (int i = 0; i < 4096; ++i) if (blocks[i].memory && memory >= blocks[i].memory && memory < blocks[i].memory + blocks[i].size) { *found = blocks[i].device; return 0; }
  return 1;
}
static int load(void **module, const void *image) {
  int id = 0, code = M.load(image, current < 0 ? 0 : current, &id);
  *module = (void *)(size_t)(id + 1);
  return code;
}
static int get_function(void **found, void *module, const char *name) {
  function *f = calloc(1, sizeof *f);
  f->id = (int)(size_t)module - 1, f->device = current < 0 ? 0 : current;
  strncpy(f->name, name, sizeof f->name - 1);
  if (M.count(f->id, name) < 0) return 500;
  *found = f;
  return 0;
}
static int launch(const function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void **arguments) {
  unsigned grid[] = {gx, gy, gz}, block[] = {bx, by, bz};
  if (f->device != (current < 0 ? 0 : current)) return 400;
  return M.launch(f->id, f->name, grid, block, shared, arguments, f->device);
}

#ifdef HIP
int hipInit(unsigned f) { (void)f; BREAK; return 0; }
int hipGetDeviceCount(int *n) { *n = M.devices; return 0; }
int hipDeviceGetName(char *t, int n, int d) { (void)d; BREAK; return tell_name(t, n); }
int hipGetDevice(int *n) { *n = current < 0 ? 0 : current; return 0; }
int hipSetDevice(int n) { if (n >= M.devices) return 101; current = n; return 0; }
int hipModuleLoadData(void **m, const void *i) { BREAK; return load(m, i); }
int hipModuleGetFunction(void **f, void *m, const char *n) { BREAK; return get_function(f, m, n); }
int hipModuleLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned s, void *st, void **a, void **e) { (void)st; (void)e; BREAK; return launch(f, gx, gy, gz, bx, by, bz, s, a); }
int hipMalloc(void **m, size_t n) { BREAK; return allocate(m, n); }
int hipFree(void *m) { return release(m); }
int hipMemcpyHtoD(void *to, const void *from, size_t n) { memcpy(to, from, n); return 0; }
int hipMemcpyDtoH(void *to, const void *from, size_t n) { memcpy(to, from, n); return 0; }
int hipStreamSynchronize(void *s) { (void)s; BREAK; return 0; }
int hipEventCreateWithFlags(void **e, unsigned f) { (void)f; *e = (void *)8; return 0; }
int hipEventRecord(void *e, void *s) { (void)e; (void)s; return 0; }
int hipStreamWaitEvent(void *s, void *e, unsigned f) { (void)s; (void)e; (void)f; return 0; }
int hipEventSynchronize(void *e) { (void)e; return 0; }
int hipEventElapsedTime(float *ms, void *a, void *b) { (void)a; (void)b; *ms = 1; return 0; }
int hipPointerGetAttribute(void *value, int attribute, void *memory) { return attribute == 9 ? owner(value, memory) : 1; }
const char *hipGetErrorString(int code) { return code == 209 ? "no kernel image is available for execution on the device" : "mock error"; }
#else
int cuInit(unsigned f) { (void)f; BREAK; return 0; }
int cuDriverGetVersion(int *v) { *v = 12020; return 0; }
int cuDeviceGetCount(int *n) { *n = M.devices; return 0; }
int cuDeviceGetName(char *t, int n, int d) { (void)d; BREAK; return tell_name(t, n); }
int cuDeviceGet(int *d, int n) { *d = n; return n < M.devices ? 0 : 101; }
int cuDeviceGetAttribute(int *v, int a, int d) { (void)d; *v = a == 75 ? M.sm / 10 : a == 76 ? M.sm % 10 : 0; return 0; }
int cuDevicePrimaryCtxRetain(void **c, int d) { BREAK; *c = (void *)(size_t)(d + 1); return 0; }
int cuCtxGetCurrent(void **c) { *c = current < 0 ? 0 : (void *)(size_t)(current + 1); return 0; }
int cuCtxSetCurrent(void *c) { current = (int)(size_t)c - 1; return 0; }
int cuCtxGetDevice(int *d) { if (current < 0) return 201; *d = current; return 0; }
int cuGetErrorString(int e, const char **s) { *s = e == 209 ? "no kernel image is available for execution on the device" : e == 2 ? "out of memory" : e == 500 ? "named symbol not found" : e == 700 ? "an illegal memory access was encountered" : "mock error"; return 0; }
int cuModuleLoadData(void **m, const void *i) { BREAK; return load(m, i); }
int cuModuleGetFunction(void **f, void *m, const char *n) { BREAK; return get_function(f, m, n); }
int cuFuncSetAttribute(void *f, int a, int v) { (void)f; (void)a; (void)v; BREAK; return 0; }
int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned s, void *st, void **a, void **e) { (void)st; (void)e; BREAK; return launch(f, gx, gy, gz, bx, by, bz, s, a); }
int cuMemAlloc_v2(void **m, size_t n) { BREAK; return allocate(m, n); }
int cuMemFree_v2(void *m) { return release(m); }
int cuMemcpyHtoD_v2(void *to, const void *from, size_t n) { memcpy(to, from, n); return 0; }
int cuMemcpyDtoH_v2(void *to, const void *from, size_t n) { memcpy(to, from, n); return 0; }
int cuStreamSynchronize(void *s) { (void)s; BREAK; return 0; }
int cuEventCreate(void **e, unsigned f) { (void)f; *e = (void *)8; return 0; }
int cuEventRecord(void *e, void *s) { (void)e; (void)s; return 0; }
int cuStreamWaitEvent(void *s, void *e, unsigned f) { (void)s; (void)e; (void)f; return 0; }
int cuEventSynchronize(void *e) { (void)e; return 0; }
int cuEventElapsedTime(float *ms, void *a, void *b) { (void)a; (void)b; *ms = 1; return 0; }
int cuPointerGetAttribute(void *value, int attribute, void *memory) { return attribute == 9 ? owner(value, memory) : 1; }
static void fill(node *one, const node_params *p) {
  one->f = p->f;
  memcpy(one->grid, p->grid, sizeof one->grid), memcpy(one->block, p->block, sizeof one->block);
  one->shared = p->shared, one->count = M.count(one->f->id, one->f->name);
  for (int i = 0; i < one->count; ++i) one->values[i] = *(void **)p->arguments[i];
}
int cuGraphCreate(void **g, unsigned f) { (void)f; BREAK; *g = calloc(1, sizeof(graph)); return 0; }
int cuGraphAddKernelNode_v2(void **n, void *g, void *const *after, size_t count, const node_params *p) {
  BREAK;
  graph *one = g;
  node *made = calloc(1, sizeof *made);
  for (size_t i = 0; i < count; ++i) { int there = 0; for (int k = 0; k < one->count; ++k) there |= one->nodes[k] == after[i]; if (!there) return 1; }
  fill(made, p);
  one->nodes[one->count++] = made, *n = made;
  return 0;
}
int cuGraphInstantiateWithFlags(void **e, void *g, unsigned long long f) { (void)f; BREAK; *e = g; return 0; }
int cuGraphExecKernelNodeSetParams_v2(void *e, void *n, const node_params *p) { (void)e; BREAK; fill(n, p); return 0; }
int cuGraphLaunch(void *e, void *s) {
  (void)s; BREAK;
  graph *one = e;
  ++calls_of_graphs;
  for (int i = 0; i < one->count; ++i) {
    node *n = one->nodes[i];
    void *list[64];
    for (int a = 0; a < n->count; ++a) list[a] = n->values + a;
    int code = launch(n->f, n->grid[0], n->grid[1], n->grid[2], n->block[0], n->block[1], n->block[2], n->shared, list);
    if (code) return code;
  }
  return 0;
}
#endif
