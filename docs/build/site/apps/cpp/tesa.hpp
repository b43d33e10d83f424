// A compiled model in C++17, on TVM's runtime: load it once, call it from any thread.
//
//   tesa::Model model("model.so");
//   std::vector<float> image(64 * 64);
//   std::vector<tesa::Tensor> outputs = model({tesa::view(image.data(), {1, 1, 64, 64})});
//   const float* logits = static_cast<const float*>(outputs[0].data_ptr());
//
// What cannot be done is a tesa::Error whose what() says in one line what was expected. Needs libtvm_runtime.so and
// libtvm_ffi.so.
#pragma once

#include <dlfcn.h>
#include <elf.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tesa {

namespace ffi = tvm::ffi;

// Memory with a shape and a type: data_ptr(), shape(), dtype(), numel(). A copy of it shares the memory.
using Tensor = ffi::Tensor;

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace details {

struct Borrowed {
  void* memory;
  void AllocData(DLTensor* tensor) { tensor->data = memory; }
  void FreeData(DLTensor*) {}
};

template <typename T>
constexpr DLDataType type_of() {
  static_assert(std::is_arithmetic_v<T>, "elements are numbers; for float16 and bfloat16 see view_as");
  const uint8_t code = std::is_same_v<T, bool>      ? static_cast<uint8_t>(kDLBool)
                       : std::is_floating_point_v<T> ? static_cast<uint8_t>(kDLFloat)
                       : std::is_signed_v<T>         ? static_cast<uint8_t>(kDLInt)
                                                     : static_cast<uint8_t>(kDLUInt);
  return {code, static_cast<uint8_t>(8 * sizeof(T)), 1};
}

// Runs what calls TVM; its errors become ours, without TVM's list of C++ frames.
template <typename Call>
auto in_words(const std::string& path, Call&& call) {
  try {
    return call();
  } catch (const ffi::Error& error) {
    throw Error(path + ": " + std::string(error.message()));
  }
}

// The system's loader crashes on a library that is cut off, and speaks of symbols where a file is of another kind.
inline void check_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw Error(path + ": cannot be read; compile a model: tesa compile model.onnx -o model.so");
  const auto size = static_cast<uint64_t>(file.tellg());
  Elf64_Ehdr header{};
  file.seekg(0).read(reinterpret_cast<char*>(&header), sizeof header);
  const bool is_elf = size >= SELFMAG && std::string(reinterpret_cast<char*>(header.e_ident), SELFMAG) == ELFMAG;
  if (!is_elf) throw Error(path + ": is no shared library");
  if (size < sizeof header || header.e_shoff + uint64_t{header.e_shentsize} * header.e_shnum > size) {
    throw Error(path + ": is cut off; copy or compile it again");
  }
#if defined(__x86_64__)
  constexpr Elf64_Half kHere = EM_X86_64;
#elif defined(__aarch64__)
  constexpr Elf64_Half kHere = EM_AARCH64;
#else
  const Elf64_Half kHere = header.e_machine;
#endif
  if (header.e_machine != kHere) throw Error(path + ": was compiled for another kind of CPU than this program");
}

using Text = const char* (*)();

inline Text text_of(void* library, const char* name) { return reinterpret_cast<Text>(dlsym(library, name)); }

}  // namespace details

// The program's own memory as a tensor, without a copy: in the order of rows, alive as long as the tensor is.
template <typename T>
Tensor view(const T* memory, std::vector<int64_t> shape) {
  return Tensor::FromNDAlloc(details::Borrowed{const_cast<T*>(memory)}, ffi::ShapeView(shape.data(), shape.size()),
                             details::type_of<T>(), DLDevice{kDLCPU, 0});
}

// The same for elements that C++ has no type for: view_as({kDLFloat, 16, 1}, halves, {1, 3}).
inline Tensor view_as(DLDataType type, const void* memory, std::vector<int64_t> shape) {
  return Tensor::FromNDAlloc(details::Borrowed{const_cast<void*>(memory)}, ffi::ShapeView(shape.data(), shape.size()),
                             type, DLDevice{kDLCPU, 0});
}

// How many threads the calls of this thread are shared among, of a model that was compiled for several. Its workers
// live as long as the program: make such calls from threads that live on.
inline void set_threads(int count) { ffi::Function::GetGlobalRequired("runtime.config_threadpool")(-1, count); }

class Model {
 public:
  // Throws where the file is none of tesa's, is damaged, or has instructions that this CPU lacks.
  explicit Model(const std::string& path) : path_(path.find('/') == std::string::npos ? "./" + path : path) {
    details::check_file(path_);
    setenv("TVM_BIND_THREADS", "0", 0);  // else a worker is bound to a core that the caller may be on, and each waits
    void* library = dlopen(path_.c_str(), RTLD_LAZY);
    if (library == nullptr) throw Error(std::string(dlerror()));
    const details::Text missing = details::text_of(library, "tesa_missing");
    const details::Text description = details::text_of(library, "tesa_description");
    if (missing == nullptr || description == nullptr) throw Error(path_ + ": is a library, but no compiled model");
    if (*missing() != '\0') {
      throw Error(path_ + ": made for " + details::text_of(library, "tesa_target")() + ", this CPU lacks " + missing());
    }
    description_ = description();
    details::in_words(path_, [&] {
      library_ = ffi::Module::LoadFromFile(path_);
      function_ = library_.value()->GetFunction("tesa_function", true).value();
      free_.push_back(open());
    });
  }

  // Inputs and outputs as JSON: {"sizes": [{"function": "main", "inputs": [{"name", "shape", "dtype"}], "outputs"}]}
  const std::string& description() const { return description_; }

  // Run the model. Any number of threads may call at once. The results are tensors that own their memory and stay.
  std::vector<Tensor> operator()(const std::vector<Tensor>& inputs) {
    return details::in_words(path_, [&] {
      std::vector<ffi::AnyView> arguments(inputs.begin(), inputs.end());
      ffi::Any name, result;
      function_.value().CallPacked(arguments.data(), static_cast<int>(arguments.size()), &name);
      // A machine holds the registers of one call. One in which a call has failed is not used again.
      ffi::Module machine = taken();
      machine->GetFunction(name.cast<ffi::String>()).value().CallPacked(
          arguments.data(), static_cast<int>(arguments.size()), &result);
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        free_.push_back(std::move(machine));
      }
      if (const auto several = result.as<ffi::Array<Tensor>>()) return std::vector<Tensor>(several->begin(), several->end());
      return std::vector<Tensor>{result.cast<Tensor>()};
    });
  }

 private:
  // A further machine costs a few KiB: code and weights are the library's.
  ffi::Module open() const {
    ffi::Module machine = library_.value()->GetFunction("vm_load_executable").value()().cast<ffi::Module>();
    constexpr int kPooled = 2;
    machine->GetFunction("vm_initialization").value()(static_cast<int>(kDLCPU), 0, kPooled);
    return machine;
  }

  ffi::Module taken() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!free_.empty()) {
        ffi::Module machine = std::move(free_.back());
        free_.pop_back();
        return machine;
      }
    }
    return open();
  }

  std::string path_, description_;
  ffi::Optional<ffi::Module> library_;
  ffi::Optional<ffi::Function> function_;
  std::mutex mutex_;
  std::vector<ffi::Module> free_;
};

}  // namespace tesa
