// Any compiled model with inputs of float32, called by several threads at once.
//
//   threads ./model.so THREADS CALLS SIZES [SIZES ...]      sizes of each input, as in 1,1,64,64
//
// Every thread runs the model on inputs that are full of 1. Printed: for each thread the sum of its first output, then,
// on standard error, the time of a call.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <numeric>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tesa.hpp"

// The numbers of "1,1,64,64"; none where it is something else.
std::vector<int64_t> sizes_of(const std::string& text) {
  std::vector<int64_t> sizes;
  std::stringstream words(text);
  for (std::string word; std::getline(words, word, ',');) {
    sizes.push_back(std::atoll(word.c_str()));
    if (sizes.back() < 1) return {};
  }
  return sizes;
}

// What one thread does: the sum of the first output of the last of so many calls.
double sum_of_calls(tesa::Model& model, int calls, const std::vector<std::vector<int64_t>>& shapes) {
  std::vector<std::vector<float>> memory;
  std::vector<tesa::Tensor> inputs;
  for (const auto& shape : shapes) {
    const int64_t count = std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
    memory.emplace_back(count, 1.0f);
    inputs.push_back(tesa::view(memory.back().data(), shape));
  }
  double sum = 0;
  for (int call = 0; call < calls; ++call) {
    const tesa::Tensor first = model(inputs).at(0);
    const float* numbers = static_cast<const float*>(first.data_ptr());
    sum = std::accumulate(numbers, numbers + first.numel(), 0.0);
  }
  return sum;
}

int main(int count, char** words) {
  std::vector<std::vector<int64_t>> shapes;
  for (int word = 4; word < count; ++word) shapes.push_back(sizes_of(words[word]));
  const bool wrong = count < 5 || std::count(shapes.begin(), shapes.end(), std::vector<int64_t>{}) > 0;
  const int threads = wrong ? 0 : std::atoi(words[2]), calls = wrong ? 0 : std::atoi(words[3]);
  if (threads < 1 || calls < 1) {
    return std::cerr << "usage: threads ./model.so THREADS CALLS SIZES [SIZES ...]   (SIZES as in 1,1,64,64)\n", 2;
  }
  std::vector<double> sums(threads);
  std::vector<std::string> errors(threads);
  try {
    tesa::Model model(words[1]);
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> pool;
    for (int number = 0; number < threads; ++number) {
      pool.emplace_back([&, number] {
        try {
          sums[number] = sum_of_calls(model, calls, shapes);
        } catch (const std::exception& error) {  // one that leaves a thread ends the program
          errors[number] = error.what();
        }
      });
    }
    for (std::thread& thread : pool) thread.join();
    const std::chrono::duration<double, std::milli> passed = std::chrono::steady_clock::now() - start;
    for (const std::string& error : errors) {
      if (!error.empty()) return std::cerr << error << "\n", 1;
    }
    for (double sum : sums) std::printf("%.6g\n", sum);
    std::fprintf(stderr, "%.4f ms a call, of %d at once\n", passed.count() / calls, threads);
  } catch (const std::exception& error) {
    return std::cerr << error.what() << "\n", 1;
  }
}
