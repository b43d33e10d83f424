// A compiled model in a C++ program, called by several threads at once.
//
//   threads ./model.so THREADS CALLS NAME SIZES [NAME SIZES ...]      SIZES as in 1,1,64,64
//
// Every thread runs the model on inputs that are full of 1 and prints the sum of its first output.

#include <dlfcn.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <memory>
#include <new>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace ffi = tvm::ffi;

// TVM takes memory only where its address is a multiple of this; what new, malloc and std::vector give need not be.
constexpr size_t kAlignment = 64;

struct Free {
  void operator()(float* memory) const { std::free(memory); }
};

// float32 memory of the program as a tensor; it belongs to the program.
struct Input {
  std::vector<int64_t> shape;
  std::unique_ptr<float, Free> memory;
  DLTensor view{};

  explicit Input(const std::string& sizes) {
    std::stringstream text(sizes);
    int64_t count = 1;
    for (std::string size; std::getline(text, size, ',');) {
      shape.push_back(std::atoll(size.c_str()));
      count *= shape.back();
    }
    // aligned_alloc wants whole units of the alignment
    const size_t bytes = (count * sizeof(float) / kAlignment + 1) * kAlignment;
    memory.reset(static_cast<float*>(std::aligned_alloc(kAlignment, bytes)));
    if (memory == nullptr) throw std::bad_alloc();
    std::fill_n(memory.get(), count, 1.0f);
    view = {memory.get(), {kDLCPU, 0}, static_cast<int32_t>(shape.size()), {kDLFloat, 32, 1}, shape.data(), nullptr, 0};
  }
};

// A virtual machine holds the registers of one call: each thread has one of its own. Code and constants are the
// library's, so that a further machine costs a few KiB.
ffi::Module open_machine(const ffi::Module& library) {
  ffi::Module machine = library->GetFunction("vm_load_executable").value()().cast<ffi::Module>();
  machine->GetFunction("vm_initialization").value()(static_cast<int>(kDLCPU), 0, 2 /* a pool of memory */);
  return machine;
}

// One thread: the sum of the first output of the last of so many calls.
double sum_of_calls(const ffi::Module& library, int calls, std::vector<Input>& inputs) {
  std::vector<ffi::AnyView> arguments;
  for (Input& input : inputs) arguments.push_back(&input.view);

  // Of a library for several sizes: the function for inputs of these shapes. A library for one has "main" alone.
  ffi::Any name;
  library->GetFunction("tesa_function", true).value().CallPacked(arguments.data(), arguments.size(), &name);
  const ffi::Module machine = open_machine(library);
  const ffi::Function run = machine->GetFunction(name.cast<ffi::String>()).value();

  double sum = 0;
  for (int call = 0; call < calls; ++call) {
    ffi::Any result;  // a tensor, or an array of tensors where the model has several outputs
    run.CallPacked(arguments.data(), arguments.size(), &result);
    const auto several = result.as<ffi::Array<ffi::Tensor>>();
    const ffi::Tensor first = several ? (*several)[0] : result.cast<ffi::Tensor>();
    const float* numbers = static_cast<const float*>(first.data_ptr());
    sum = 0;
    for (int64_t i = 0; i < first.numel(); ++i) sum += numbers[i];
  }
  return sum;
}

// An error in words: without TVM's list of C++ frames.
std::string in_words(const std::exception& error) {
  const auto* tvm = dynamic_cast<const ffi::Error*>(&error);
  return tvm != nullptr ? std::string(tvm->message()) : std::string(error.what());
}

int main(int count, char** words) {
  if (count < 6 || count % 2 != 0 || std::atoi(words[2]) < 1 || std::atoi(words[3]) < 1) {
    return std::cerr << "usage: threads ./model.so THREADS CALLS NAME SIZES [NAME SIZES ...]   (SIZES as in 1,1,64,64)\n", 2;
  }
  const std::string path = words[1];
  const int threads = std::atoi(words[2]), calls = std::atoi(words[3]);

  // Before anything of the model runs: does this CPU have its instructions? These two functions are plain C.
  void* handle = dlopen(path.c_str(), RTLD_LAZY);
  if (handle == nullptr) return std::cerr << dlerror() << "\n", 1;
  using Text = const char* (*)();
  const std::string missing = reinterpret_cast<Text>(dlsym(handle, "tesa_missing"))();
  if (!missing.empty()) {
    const char* target = reinterpret_cast<Text>(dlsym(handle, "tesa_target"))();
    return std::cerr << path << ": made for " << target << ", this CPU lacks " << missing << "\n", 1;
  }

  std::vector<double> sums(threads);
  std::vector<std::string> errors(threads);
  try {
    const ffi::Module library = ffi::Module::LoadFromFile(path);
    std::vector<std::thread> pool;
    for (int number = 0; number < threads; ++number) {
      pool.emplace_back([&, number] {
        try {
          std::vector<Input> inputs;
          for (int word = 5; word < count; word += 2) inputs.emplace_back(words[word]);
          sums[number] = sum_of_calls(library, calls, inputs);
        } catch (const std::exception& error) {  // one that leaves a thread ends the program
          errors[number] = in_words(error);
        }
      });
    }
    for (std::thread& thread : pool) thread.join();
  } catch (const std::exception& error) {
    return std::cerr << path << ": " << in_words(error) << "\n", 1;
  }
  for (const std::string& error : errors) {
    if (!error.empty()) return std::cerr << path << ": " << error << "\n", 1;
  }
  for (double sum : sums) std::printf("%.6g\n", sum);
}
