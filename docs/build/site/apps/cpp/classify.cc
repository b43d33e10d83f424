// The digit in an image: the least that a program with a compiled model does.
//
//   classify ./model.so image.f32 [image.f32 ...]      64 x 64 numbers of float32 each, 0 paper, 1 ink

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>

#include "tesa.hpp"

int main(int count, char** words) {
  if (count < 3) return std::cerr << "usage: classify ./model.so image.f32 [image.f32 ...]\n", 2;
  try {
    tesa::Model model(words[1]);
    for (int word = 2; word < count; ++word) {
      std::array<float, 64 * 64> image;
      std::ifstream file(words[word], std::ios::binary);
      file.read(reinterpret_cast<char*>(image.data()), sizeof image);
      if (!file || file.peek() != EOF) {
        return std::cerr << words[word] << ": expected a file of " << sizeof image << " bytes\n", 1;
      }
      const tesa::Tensor logits = model({tesa::view(image.data(), {1, 1, 64, 64})}).at(0);
      const float* scores = static_cast<const float*>(logits.data_ptr());
      std::printf("%s: %td\n", words[word], std::max_element(scores, scores + logits.numel()) - scores);
    }
  } catch (const std::exception& error) {
    return std::cerr << error.what() << "\n", 1;
  }
}
