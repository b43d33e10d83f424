// A kernel or a network that tesa has compiled for a GPU, called from C++: it needs the GPU's driver and nothing else.
//
//     g++ -std=c++17 -O2 layer.cc -o layer -ldl
//     ./layer ./net.so net
//
// The library is opened by its name here; a program may link it instead. With CUDA's or HIP's own headers at hand,
// give NAME_run pointers to memory of the device and your stream: nothing is copied then, and nothing is waited for.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

// what the library says of itself: {"inputs": [{"shape": [1, 40, 70], ...}], "outputs": [...], ...}
std::vector<size_t> elements(const std::string& description, const std::string& side) {
  std::vector<size_t> found;
  size_t at = description.find("\"" + side + "\": [");
  const size_t end = description.find("}]", at);
  while ((at = description.find("\"shape\": [", at)) != std::string::npos && at < end) {
    size_t count = 1;
    const char* text = description.c_str() + at + 10;
    while (*text != ']') {
      char* next = nullptr;
      count *= std::strtoull(text, &next, 10);
      text = *next == ',' ? next + 1 : next;
    }
    found.push_back(count);
    ++at;
  }
  return found;
}

template <class Function>
Function symbol(void* library, const std::string& name) {
  void* found = dlsym(library, name.c_str());
  if (!found) {
    std::fprintf(stderr, "the library has no %s: is that its name?\n", name.c_str());
    std::exit(2);
  }
  return reinterpret_cast<Function>(found);
}

}  // namespace

int main(int count, char** words) {
  if (count != 3) {
    std::fprintf(stderr, "usage: layer ./LIBRARY.so NAME\n");
    return 2;
  }
  void* library = dlopen(words[1], RTLD_NOW);
  if (!library) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 2;
  }
  const std::string name = words[2];
  auto describe = symbol<const char* (*)()>(library, name + "_description");
  auto error = symbol<const char* (*)()>(library, name + "_error");
  auto run = symbol<int (*)(int, void* const*, void* const*, int, float*)>(library, name + "_run_host");

  const std::string description = describe();
  std::vector<std::vector<float>> arrays;
  std::vector<void*> inputs, outputs;
  for (size_t size : elements(description, "inputs")) arrays.emplace_back(size, 1.0f);
  const size_t given = arrays.size();
  for (size_t size : elements(description, "outputs")) arrays.emplace_back(size, 0.0f);
  for (size_t i = 0; i < arrays.size(); ++i) (i < given ? inputs : outputs).push_back(arrays[i].data());

  float milliseconds = 0;
  if (run(0, inputs.data(), outputs.data(), 11, &milliseconds) != 0) {
    std::fprintf(stderr, "%s\n", error());
    return 1;
  }
  const std::vector<float>& y = arrays[given];
  std::printf("%.6g %.6g ... %.6g, %.4g ms a call\n", y[0], y[y.size() > 1 ? 1 : 0], y.back(), milliseconds);
  return 0;
}
