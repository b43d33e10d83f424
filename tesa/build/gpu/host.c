/* The host of kernels for GPUs: part of every library that tesa makes for one. It opens the driver by name when something
   first runs, picks the image of code that the device can run, and launches the kernels. Above this stand the tables that
   describe the library: NAME, MODULES, LAUNCHES, ARGUMENTS, SPANS, INPUTS, OUTPUTS, CONSTANTS, ARENA. Launches and ports
   are those of all sizes, one behind the other. TESA_HIP: for AMD's driver.
   No header of a vendor is needed: the few structures of the driver's interface are written down here. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define PASTE(a, b) a##b
#define NAMED_(name, what) PASTE(name, what)
#define NAMED(what) NAMED_(NAME, what)
enum { MOST_DEVICES = 32, FALLBACK = -1 };

#ifdef TESA_HIP
#define DRIVERS {getenv("TESA_GPU_DRIVER"), "libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so"}
#define SYMBOL(cuda, hip) hip
#define VENDOR "AMD"
#define OLDEST "ROCm 5.0"
enum { DEVICE_TYPE = 10, ORDINAL = 9 };
#else
#define DRIVERS {getenv("TESA_GPU_DRIVER"), "libcuda.so.1", "libcuda.so"}
#define SYMBOL(cuda, hip) cuda
#define VENDOR "NVIDIA"
#define OLDEST "CUDA 11.4"
enum { DEVICE_TYPE = 2, ORDINAL = 9 };
#endif

typedef struct { void *function; unsigned grid[3], block[3], shared; void **arguments, **extra; void *kern, *context; } node_params;

typedef struct {
  int ready, major, minor;
  void *context, *modules[COUNT_MODULES], *functions[COUNT_LAUNCHES];
  char *arena;
  void *event, *graphs[COUNT_SIZES], *nodes[COUNT_LAUNCHES], *executables[COUNT_SIZES];
  void *seen[COUNT_ARGUMENTS + 1];
} device_state;

static struct {
  void *library;
  int state, count;
  int (*init)(unsigned), (*device_count)(int *), (*device_get)(int *, int), (*attribute)(int *, int, int);
  int (*load)(void **, const void *), (*function)(void **, void *, const char *);
  int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);
  int (*allocate)(void *, size_t), (*release)(void *), (*to_device)(void *, const void *, size_t), (*to_host)(void *, const void *, size_t);
  int (*synchronize)(void *), (*event_create)(void **, unsigned), (*event_record)(void *, void *), (*event_wait)(void *, void *, unsigned);
  int (*event_synchronize)(void *), (*elapsed)(float *, void *, void *), (*pointer)(void *, int, void *);
  int (*retain)(void **, int), (*current)(void **), (*set_current)(void *), (*current_device)(int *), (*set_device)(int);
  int (*error)(int, const char **), (*function_set)(void *, int, int), (*version)(int *);
  const char *(*hip_error)(int);
  int (*graph_create)(void **, unsigned), (*graph_add)(void **, void *, void *const *, size_t, const node_params *);
  int (*graph_instantiate)(void **, void *, unsigned long long), (*graph_set)(void *, void *, const node_params *), (*graph_launch)(void *, void *);
} D;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static device_state states[MOST_DEVICES];
static __thread char why[1024];

static int refuse(int code, const char *format, ...) {
  va_list list;
  va_start(list, format);
  vsnprintf(why, sizeof why, format, list);
  va_end(list);
  return code ? code : -1;
}

static int failed(const char *what, int code) {
  const char *text = 0;
#ifdef TESA_HIP
  if (D.hip_error) text = D.hip_error(code);
#else
  if (D.error) D.error(code, &text);
#endif
  return refuse(code, "%s: the GPU driver says: %s (%d)", what, text ? text : "an unknown error", code);
}

static int open_driver(void) {
  const char *names[] = DRIVERS;
  char tried[300] = "";
  for (size_t i = 0; i < sizeof names / sizeof *names && !D.library; ++i) {
    if (!names[i] || !*names[i]) continue;
    D.library = dlopen(names[i], RTLD_NOW | RTLD_GLOBAL);
    snprintf(tried + strlen(tried), sizeof tried - strlen(tried), "%s%s", *tried ? ", " : "", names[i]);
  }
  if (!D.library)
    return refuse(0, "no driver of a GPU of " VENDOR " was found: none of %s can be opened; install the driver, or name "
                  "its library in $TESA_GPU_DRIVER", tried);
#define OPTIONAL(field, cuda, hip) *(void **)&D.field = dlsym(D.library, SYMBOL(cuda, hip))
#define NEEDED(field, cuda, hip) if (!(OPTIONAL(field, cuda, hip))) \
    return refuse(0, "the GPU driver %s has no %s: it is too old, " OLDEST " or newer is needed", tried, SYMBOL(cuda, hip))
  NEEDED(init, "cuInit", "hipInit");
  NEEDED(device_count, "cuDeviceGetCount", "hipGetDeviceCount");
  NEEDED(load, "cuModuleLoadData", "hipModuleLoadData");
  NEEDED(function, "cuModuleGetFunction", "hipModuleGetFunction");
  NEEDED(launch, "cuLaunchKernel", "hipModuleLaunchKernel");
  NEEDED(allocate, "cuMemAlloc_v2", "hipMalloc");
  NEEDED(release, "cuMemFree_v2", "hipFree");
  NEEDED(to_device, "cuMemcpyHtoD_v2", "hipMemcpyHtoD");
  NEEDED(to_host, "cuMemcpyDtoH_v2", "hipMemcpyDtoH");
  NEEDED(synchronize, "cuStreamSynchronize", "hipStreamSynchronize");
  NEEDED(event_create, "cuEventCreate", "hipEventCreateWithFlags");
  NEEDED(event_record, "cuEventRecord", "hipEventRecord");
  NEEDED(event_wait, "cuStreamWaitEvent", "hipStreamWaitEvent");
  NEEDED(event_synchronize, "cuEventSynchronize", "hipEventSynchronize");
  NEEDED(elapsed, "cuEventElapsedTime", "hipEventElapsedTime");
  OPTIONAL(pointer, "cuPointerGetAttribute", "hipPointerGetAttribute");
#ifdef TESA_HIP
  NEEDED(current_device, "", "hipGetDevice");
  NEEDED(set_device, "", "hipSetDevice");
  OPTIONAL(hip_error, "", "hipGetErrorString");
#else
  OPTIONAL(error, "cuGetErrorString", "");
  NEEDED(device_get, "cuDeviceGet", "");
  NEEDED(attribute, "cuDeviceGetAttribute", "");
  NEEDED(retain, "cuDevicePrimaryCtxRetain", "");
  NEEDED(current, "cuCtxGetCurrent", "");
  NEEDED(set_current, "cuCtxSetCurrent", "");
  NEEDED(current_device, "cuCtxGetDevice", "");
  OPTIONAL(version, "cuDriverGetVersion", "");
  OPTIONAL(function_set, "cuFuncSetAttribute", "");
  /* the structure of the second version begins with that of the first one */
  if (!(OPTIONAL(graph_add, "cuGraphAddKernelNode_v2", ""))) OPTIONAL(graph_add, "cuGraphAddKernelNode", "");
  if (!(OPTIONAL(graph_set, "cuGraphExecKernelNodeSetParams_v2", ""))) OPTIONAL(graph_set, "cuGraphExecKernelNodeSetParams", "");
  OPTIONAL(graph_create, "cuGraphCreate", "");
  OPTIONAL(graph_instantiate, "cuGraphInstantiateWithFlags", "");
  OPTIONAL(graph_launch, "cuGraphLaunch", "");
#endif
  int code = D.init(0);
  if (code) return failed("a GPU cannot be used", code);
  if ((code = D.device_count(&D.count))) return failed("the GPUs cannot be counted", code);
  if (D.count < 1) return refuse(0, "the driver %s knows no GPU", tried);
  return 0;
}

/* makes the device the current one of this thread; *before is what restore() takes */
static int enter(int device, device_state *state, void **before) {
  int code;
#ifdef TESA_HIP
  int current = 0;
  (void)state;
  if ((code = D.current_device(&current))) return failed("hipGetDevice", code);
  *before = (void *)(size_t)current;
  if (current != device && (code = D.set_device(device))) return failed("hipSetDevice", code);
#else
  int current = -1, handle = 0;
  *before = 0;
  D.current(before);
  if (*before && !D.current_device(&current) && current == device) return 0;
  if (!state->context) {
    if ((code = D.device_get(&handle, device))) return failed("cuDeviceGet", code);
    if ((code = D.retain(&state->context, handle))) return failed("cuDevicePrimaryCtxRetain", code);
  }
  if ((code = D.set_current(state->context))) return failed("cuCtxSetCurrent", code);
#endif
  return 0;
}

static void restore(void *before) {
#ifdef TESA_HIP
  D.set_device((int)(size_t)before);
#else
  if (before) D.set_current(before);
#endif
}

#ifdef TESA_HIP
static int load_module(int device, device_state *state, int m) {
  (void)device;
  int code = FALLBACK;
  for (int i = 0; i < MODULES[m].count && code; ++i) code = D.load(&state->modules[m], MODULES[m].images[i].bytes);
  if (code) state->modules[m] = 0;
  return code ? refuse(code, "device %d cannot run code for " ARCHITECTURES ", which this library has; compile it for the "
                       "device's architecture (the driver says: %s)", device, D.hip_error ? D.hip_error(code) : "no") : 0;
}
#else
/* the code that comes next: a cubin runs on devices of its major version, from its minor one on; PTX on newer ones too */
static const image *next_image(const module *m, const device_state *state, unsigned done) {
  const int sm = 10 * state->major + state->minor;
  const image *best = 0;
  for (int i = 0; i < m->count; ++i) {
    const image *one = m->images + i;
    const int fits = one->ptx == 2 ? one->sm == sm  /* for one architecture alone */
                     : one->ptx ? one->sm <= sm : one->sm / 10 == state->major && one->sm <= sm;
    if (done >> i & 1 || !fits) continue;
    if (!best || one->ptx < best->ptx || (one->ptx == best->ptx && one->sm > best->sm)) best = one;
  }
  return best;
}

static int load_module(int device, device_state *state, int m) {
  int code = 0, version = 0;
  unsigned done = 0;
  const image *one;
  while ((one = next_image(MODULES + m, state, done))) {
    done |= 1u << (one - MODULES[m].images);
    const int now = D.load(&state->modules[m], one->bytes);
    if (!now) return 0;
    if (!code || one->ptx) code = now;
    state->modules[m] = 0;
  }
  if (!code)
    return refuse(209, "device %d is sm_%d%d, and this library has code for " ARCHITECTURES "; compile it for "
                  "cuda:sm_%d%d", device, state->major, state->minor, state->major, state->minor);
  if (D.version) D.version(&version);
  if (code == 222 || code == 218 || code == 200)
    return refuse(code, "the driver, for CUDA %d.%d, does not understand the code of this library (%d): update it",
                  version / 1000, version % 1000 / 10, code);
  return failed("the code of this library cannot be loaded", code);
}
#endif

/* what a device needs once: modules, functions, and memory with the constants in it. The device is current. */
static int prepare(int device, device_state *state) {
  int code;
  if (state->ready) return 0;
#ifndef TESA_HIP
  int handle = 0;
  if ((code = D.device_get(&handle, device))) return failed("cuDeviceGet", code);
  D.attribute(&state->major, 75, handle);
  D.attribute(&state->minor, 76, handle);
#endif
  for (int m = 0; m < COUNT_MODULES; ++m)
    if (!state->modules[m] && (code = load_module(device, state, m))) return code;
  for (int i = 0; i < COUNT_LAUNCHES; ++i) {
    if ((code = D.function(&state->functions[i], state->modules[LAUNCHES[i].module], LAUNCHES[i].entry)))
      return failed(LAUNCHES[i].entry, code);
    if (LAUNCHES[i].shared > 48 * 1024 && D.function_set &&
        (code = D.function_set(state->functions[i], 8, (int)LAUNCHES[i].shared)))
      return failed("the device has too little shared memory for a kernel", code);
  }
  if (ARENA && !state->arena && (code = D.allocate(&state->arena, ARENA))) {
    state->arena = 0;
    if (code == 2) return refuse(code, "out of memory: this library needs %zu bytes of its own on device %d", (size_t)ARENA, device);
    return failed("memory of the device", code);
  }
  if (CONSTANT_BYTES && (code = D.to_device(state->arena, CONSTANTS, CONSTANT_BYTES))) return failed("copying the constants", code);
  if (!state->event && (code = D.event_create(&state->event, 2))) return failed("cuEventCreate", code);
  state->ready = 1;
  return 0;
}

static void *place_of(const argument *one, const device_state *state, void *const *inputs, void *const *outputs) {
  return one->space == 0 ? inputs[one->place] : one->space == 1 ? outputs[one->place] : state->arena + one->place;
}

static int launch_all(device_state *state, int size, void *const *inputs, void *const *outputs, void *stream) {
  int code;
  for (int i = SPANS[size].first; i < SPANS[size].end; ++i) {
    const launch *one = LAUNCHES + i;
    void *values[MOST_ARGUMENTS], *list[MOST_ARGUMENTS];
    for (int a = 0; a < one->count; ++a) {
      values[a] = place_of(ARGUMENTS + one->first + a, state, inputs, outputs);
      list[a] = values + a;
    }
    code = D.launch(state->functions[i], one->grid[0], one->grid[1], one->grid[2], one->block[0], one->block[1],
                    one->block[2], one->shared, stream, list, 0);
    if (code) return failed(one->entry, code);
  }
  return 0;
}

#ifndef TESA_HIP
/* the launches as a graph: those of one stage wait for all of the stage before, and not for each other */
static int launch_graph(device_state *state, int size, void *const *inputs, void *const *outputs, void *stream) {
  const int first = SPANS[size].first;
  void **graph = &state->graphs[size], **executable = &state->executables[size];
  int code, made = *executable != 0, begin = first, end = first;
  if (!*graph && (code = D.graph_create(graph, 0))) return failed("cuGraphCreate", code);
  for (int i = first; i < SPANS[size].end; ++i) {
    const launch *one = LAUNCHES + i;
    void *list[MOST_ARGUMENTS];
    int changed = !made;
    for (int a = 0; a < one->count; ++a) {
      void *value = place_of(ARGUMENTS + one->first + a, state, inputs, outputs);
      changed |= state->seen[one->first + a] != value;
      state->seen[one->first + a] = value;
      list[a] = &state->seen[one->first + a];
    }
    if (i > first && one->stage != LAUNCHES[i - 1].stage) begin = end, end = i;
    if (!changed) continue;
    node_params node = {state->functions[i], {one->grid[0], one->grid[1], one->grid[2]},
                        {one->block[0], one->block[1], one->block[2]}, one->shared, list, 0, 0, 0};
    code = made ? D.graph_set(*executable, state->nodes[i], &node)
                : D.graph_add(&state->nodes[i], *graph, state->nodes + begin, (size_t)(end - begin), &node);
    if (code) {
      *graph = *executable = 0;  /* a part of it is there, or is of other memory: the next call begins anew */
      return failed(one->entry, code);
    }
  }
  if (!made && (code = D.graph_instantiate(executable, *graph, 0))) {
    *graph = *executable = 0;
    return failed("cuGraphInstantiate", code);
  }
  code = D.graph_launch(*executable, stream);
  return code ? failed("cuGraphLaunch", code) : 0;
}
#endif

/* input or, behind these, output i of a size */
static const port *port_of(int size, int i) {
  return i < COUNT_INPUTS ? INPUTS + size * COUNT_INPUTS + i : OUTPUTS + size * COUNT_OUTPUTS + i - COUNT_INPUTS;
}

/* the device on which the memory lies, -1 where the driver does not tell */
static int device_of(void *memory) {
  int found = -1;
  return D.pointer && !D.pointer(&found, ORDINAL, memory) ? found : -1;
}

static int check_memory(const port *ports, void *const *memory, int count, int *device) {
  for (int i = 0; i < count; ++i) {
    if (!memory[i]) return refuse(0, "%s: no memory was given", ports[i].name);
    if ((size_t)memory[i] % ports[i].alignment)
      return refuse(0, "%s: its address is no multiple of %d bytes", ports[i].name, ports[i].alignment);
    if (!D.pointer) continue;
    const int found = device_of(memory[i]);
    if (found < 0) return refuse(0, "%s: its memory is not on a GPU of " VENDOR, ports[i].name);
    if (*device >= 0 && found != *device)
      return refuse(0, "%s: its memory is on device %d, and that of the others on device %d", ports[i].name, found, *device);
    *device = found;
  }
  return 0;
}

/* lock is held */
static int run_on(int size, int device, void *const *inputs, void *const *outputs, void *stream) {
  device_state *state = states + device;
  void *before = 0;
  int code = enter(device, state, &before);
  if (code) return code;
  code = prepare(device, state);
  /* memory that the launches share is used by one run at a time, whatever its stream */
  if (!code && ARENA > CONSTANT_BYTES && (code = D.event_wait(stream, state->event, 0))) code = failed("cuStreamWaitEvent", code);
#ifndef TESA_HIP
  const int graphs = D.graph_add && D.graph_set && D.graph_create && D.graph_instantiate && D.graph_launch;
  if (!code && SPANS[size].end - SPANS[size].first > 1 && graphs) code = launch_graph(state, size, inputs, outputs, stream);
  else
#endif
  if (!code) code = launch_all(state, size, inputs, outputs, stream);
  if (!code && ARENA > CONSTANT_BYTES && (code = D.event_record(state->event, stream))) code = failed("cuEventRecord", code);
  restore(before);
  return code;
}

/* lock is held */
static int open_once(void) {
  if (!D.state) {
    const int code = open_driver();
    if (code) {
      if (D.library) dlclose(D.library);
      memset(&D, 0, sizeof D);
      return code;
    }
    D.state = 1;
  }
  return 0;
}

static int chosen(int device) {
#ifdef TESA_HIP
  if (device < 0) D.current_device(&device);
#else
  void *context = 0;
  if (device < 0 && !D.current(&context) && context) D.current_device(&device);
#endif
  if (device < 0) device = 0;
  return device;
}

static int run_checked(int size, int device, void *const *inputs, void *const *outputs, void *stream) {
  pthread_mutex_lock(&lock);
  int code = open_once();
  if (!code) code = check_memory(INPUTS + size * COUNT_INPUTS, inputs, COUNT_INPUTS, &device);
  if (!code) code = check_memory(OUTPUTS + size * COUNT_OUTPUTS, outputs, COUNT_OUTPUTS, &device);
  if (!code) {
    device = chosen(device);
    if (device >= D.count || device >= MOST_DEVICES) code = refuse(0, "there is no device %d; the driver knows %d", device, D.count);
    else code = run_on(size, device, inputs, outputs, stream);
  }
  pthread_mutex_unlock(&lock);
  return code;
}

static int run_host(int size, int device, void *const *inputs, void *const *outputs, int calls, float *milliseconds) {
  void *memory[COUNT_INPUTS + COUNT_OUTPUTS + 1] = {0}, *before = 0, *begin = 0, *end = 0;
  pthread_mutex_lock(&lock);
  int code = open_once(), entered = 0;
  if (!code) device = chosen(device);
  if (!code && (device >= D.count || device >= MOST_DEVICES)) code = refuse(0, "there is no device %d; the driver knows %d", device, D.count);
  if (!code && !(code = enter(device, states + device, &before))) entered = 1;
  for (int i = 0; !code && i < COUNT_INPUTS + COUNT_OUTPUTS; ++i) {
    const port *one = port_of(size, i);
    const size_t bytes = one->bytes ? one->bytes : 4;
    code = D.allocate(&memory[i], bytes);
    if (code) code = code == 2 ? refuse(code, "out of memory: %s needs %zu bytes on device %d", one->name, bytes, device) : failed(one->name, code);
    if (!code && i < COUNT_INPUTS && one->bytes && (code = D.to_device(memory[i], inputs[i], one->bytes))) code = failed(one->name, code);
  }
  if (!code) code = run_on(size, device, memory, memory + COUNT_INPUTS, 0);
  if (!code && milliseconds && (D.event_create(&begin, 0) || D.event_create(&end, 0))) code = refuse(0, "no events to measure time with");
  if (!code && milliseconds) D.event_record(begin, 0);
  for (int i = 1; !code && i < calls; ++i) code = run_on(size, device, memory, memory + COUNT_INPUTS, 0);
  if (!code && milliseconds) {
    float total = 0;
    D.event_record(end, 0);
    D.event_synchronize(end);
    if ((code = D.elapsed(&total, begin, end))) code = failed("cuEventElapsedTime", code);
    *milliseconds = calls > 1 ? total / (calls - 1) : 0;
  }
  if (!code && (code = D.synchronize(0))) code = failed("the work did not come to its end", code);
  for (int i = 0; !code && i < COUNT_OUTPUTS; ++i) {
    const port *one = port_of(size, COUNT_INPUTS + i);
    if (one->bytes && (code = D.to_host(outputs[i], memory[COUNT_INPUTS + i], one->bytes))) code = failed(one->name, code);
  }
  for (int i = 0; i < COUNT_INPUTS + COUNT_OUTPUTS; ++i) if (memory[i]) D.release(memory[i]);
  if (entered) restore(before);
  pthread_mutex_unlock(&lock);
  return code;
}

EXPORT const char *NAMED(_error)(void) { return why; }
EXPORT const char *NAMED(_description)(void) { return DESCRIPTION; }

/* Starts the work on a stream; 0, or a code, and NAME_error() says why. The memory is on one device. */
EXPORT int NAMED(_run)(void *const *inputs, void *const *outputs, void *stream) { return run_checked(0, -1, inputs, outputs, stream); }

/* Copies of the inputs on a device, the work `calls` times, and its outputs back in memory of the host. milliseconds:
   of a call, after the first one, or 0 for nobody who wants to know. */
EXPORT int NAMED(_run_host)(int device, void *const *inputs, void *const *outputs, int calls, float *milliseconds) {
  return run_host(0, device, inputs, outputs, calls, milliseconds);
}

/* The same as a packed function of TVM's FFI, which calls it with tensors of DLPack. Its functions are weak: they are
   there where TVM is. */
typedef struct { void *data; struct { int type, id; } device; int ndim; struct { uint8_t code, bits; uint16_t lanes; } dtype; int64_t *shape, *strides; uint64_t offset; } tensor;
typedef struct { int32_t type_index; uint32_t padding; union { int64_t integer; void *pointer; } value; } any;
enum { TENSOR_POINTER = 7, TENSOR_OBJECT = 70, OBJECT_BYTES = 24 };
extern void *TVMFFIEnvGetStream(int32_t, int32_t) __attribute__((weak));
extern void TVMFFIErrorSetRaisedFromCStr(const char *, const char *) __attribute__((weak));

static int raise_error(const char *kind) {
  if (TVMFFIErrorSetRaisedFromCStr) TVMFFIErrorSetRaisedFromCStr(kind, why);
  return -1;
}

/* 0 where a tensor is what a port takes */
static int check_tensor(const port *one, const tensor *given, int *device) {
  if (given->device.type != DEVICE_TYPE) { refuse(0, "%s: expected a tensor on a GPU of " VENDOR ", got one on a device of DLPack's type %d", one->name, given->device.type); return raise_error("ValueError"); }
  if (*device >= 0 && given->device.id != *device) { refuse(0, "%s: is on device %d, and the others are on device %d", one->name, given->device.id, *device); return raise_error("ValueError"); }
  *device = given->device.id;
  if (given->dtype.code != one->code || given->dtype.bits != one->bits || given->dtype.lanes != 1) { refuse(0, "%s: expected %s", one->name, one->dtype); return raise_error("TypeError"); }
  int same = given->ndim == one->ndim;
  int64_t step = 1;
  for (int axis = given->ndim - 1; same && axis >= 0; --axis) {
    same = given->shape[axis] == one->shape[axis];
    if (same && given->strides && given->shape[axis] != 1 && given->strides[axis] != step) { refuse(0, "%s: expected contiguous memory", one->name); return raise_error("ValueError"); }
    step *= given->shape[axis];
  }
  if (!same) { refuse(0, "%s: expected the shape %s", one->name, one->shape_text); return raise_error("ValueError"); }
  return 0;
}

static const tensor *tensor_of(const any *given) {
  return given->type_index == TENSOR_POINTER ? (const tensor *)given->value.pointer
       : given->type_index == TENSOR_OBJECT ? (const tensor *)((const char *)given->value.pointer + OBJECT_BYTES) : 0;
}

/* the size that the inputs have the shapes of, -1 where there is none */
static int size_of(const any *arguments) {
  for (int size = 0; size < COUNT_SIZES; ++size) {
    int fits = 1;
    for (int i = 0; i < COUNT_INPUTS; ++i) {
      const port *one = port_of(size, i);
      const tensor *given = tensor_of(arguments + i);
      fits = fits && given && given->ndim == one->ndim;
      for (int axis = 0; fits && axis < one->ndim; ++axis) fits = given->shape[axis] == one->shape[axis];
    }
    if (fits) return size;
  }
  return -1;
}

static int refuse_shapes(const any *arguments) {
  char text[400] = "";
  size_t end = 0;
  for (int i = 0; i < COUNT_INPUTS && end < sizeof text - 40; ++i) {
    const tensor *given = tensor_of(arguments + i);
    end += snprintf(text + end, sizeof text - end, " [");
    for (int axis = 0; given && axis < given->ndim && end < sizeof text - 40; ++axis)
      end += snprintf(text + end, sizeof text - end, axis ? ", %lld" : "%lld", (long long)given->shape[axis]);
    end += snprintf(text + end, sizeof text - end, "]");
  }
  refuse(0, "the model was compiled for inputs of the shapes %.500s, and for no others; got%s", SHAPES_TOLD, text);
  return raise_error("ValueError");
}

/* size: -1 for the one that the inputs have */
static int packed(int size, const any *arguments, int32_t count, any *result) {
  void *memory[COUNT_INPUTS + COUNT_OUTPUTS + 1];
  int device = -1;
  if (count != COUNT_INPUTS + COUNT_OUTPUTS) { refuse(0, "expected %d tensors: the inputs, then the outputs", COUNT_INPUTS + COUNT_OUTPUTS); return raise_error("TypeError"); }
  for (int i = 0; i < count; ++i)
    if (!tensor_of(arguments + i)) { refuse(0, "%s: expected a tensor", port_of(0, i)->name); return raise_error("TypeError"); }
  if (size < 0) size = COUNT_SIZES > 1 ? size_of(arguments) : 0;
  if (size < 0) return refuse_shapes(arguments);
  for (int i = 0; i < count; ++i) {
    const tensor *found = tensor_of(arguments + i);
    if (check_tensor(port_of(size, i), found, &device)) return -1;
    memory[i] = (char *)found->data + found->offset;
  }
  void *stream = TVMFFIEnvGetStream ? TVMFFIEnvGetStream(DEVICE_TYPE, device) : 0;
  if (run_checked(size, device, memory, memory + COUNT_INPUTS, stream)) return raise_error("RuntimeError");
  result->type_index = 0;
  result->value.integer = 0;
  return 0;
}

#define PACKED__(name) __tvm_ffi_##name
#define PACKED_(name) PACKED__(name)
EXPORT int PACKED_(ENTRY)(void *self, const any *arguments, int32_t count, any *result) { return packed(-1, arguments, count, result); }
