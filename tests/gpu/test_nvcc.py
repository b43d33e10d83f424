"""The interpreter of PTX on texts that it was not made for: what nvcc makes of CUDA C."""

from __future__ import annotations

import subprocess
from functools import cache

import numpy as np
import pytest

from tesa.base.scratch import Scratch
from tesa.build.gpu import tools
from tests.gpu.simulate import Fault, run

pytestmark = pytest.mark.skipif(tools.program("nvcc") is None, reason="there is no nvcc")

SOURCE = """
#include <cuda_fp16.h>
extern "C" __global__ void product(const float *a, const float *b, float *c, int m, int k, int n) {
  __shared__ float ta[16][17], tb[16][17];
  int x = threadIdx.x, y = threadIdx.y, row = blockIdx.y * 16 + y, column = blockIdx.x * 16 + x;
  float sum = 0;
  for (int first = 0; first < k; first += 16) {
    ta[y][x] = row < m && first + x < k ? a[row * k + first + x] : 0;
    tb[y][x] = column < n && first + y < k ? b[(first + y) * n + column] : 0;
    __syncthreads();
    for (int i = 0; i < 16; i++) sum += ta[y][i] * tb[i][x];
    SYNC
  }
  if (row < m && column < n) c[row * n + column] = sum;
}
extern "C" __global__ void total(const float *x, float *y, int n) {
  __shared__ float parts[8];
  float sum = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[i] < 0 ? expf(x[i]) : sqrtf(x[i]);
  for (int far = 16; far; far >>= 1) sum += __shfl_down_sync(~0u, sum, far);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int i = 1; i < blockDim.x / 32; i++) sum += parts[i];
    atomicAdd(y, sum);
  }
}
extern "C" __global__ void codes(const int *w, const int *x, signed char *y, const float *scale, int k, int n) {
  int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= n) return;
  int sum = 0;
  for (int i = 0; i < k; i++) sum = __dp4a(w[i], x[i * n + column], sum);
  y[column] = (signed char)max(-128, min(127, __float2int_rn(sum * scale[0])));
}
extern "C" __global__ void halves(const __half2 *x, __half2 *y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = __hfma2(x[i], x[i], __float2half2_rn(0.5f));
}
"""


@cache
def text(architecture: str, sync: str = "__syncthreads();") -> str:
    with Scratch() as folder:
        source, made = f"{folder}/code.cu", f"{folder}/code.ptx"
        with open(source, "w") as file:
            file.write(SOURCE.replace("SYNC", sync))
        command = [str(tools.program("nvcc")), "-ptx", f"-arch={architecture}", source, "-o", made]
        subprocess.run(command, check=True, capture_output=True)
        with open(made) as file:
            return file.read()


@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90"])
def test_a_product_through_shared_memory(architecture):
    rng = np.random.default_rng(0)
    a, b, c = rng.random((20, 35), np.float32), rng.random((35, 30), np.float32), np.zeros((20, 30), np.float32)
    run(text(architecture), "product", (2, 2), (16, 16), 0, [a, b, c, 20, 35, 30])
    np.testing.assert_allclose(c, a @ b, rtol=1e-5)


def test_its_second_barrier_is_missed():
    a, b, c = (np.ones((32, 32), np.float32) for _ in range(3))
    with pytest.raises(Fault, match="a race"):
        run(text("sm_80", ""), "product", (2, 2), (16, 16), 0, [a, b, c, 32, 32, 32])


def test_a_sum_by_shuffles_and_atomics():
    x, y = np.random.default_rng(1).standard_normal(1000).astype(np.float32), np.zeros(1, np.float32)
    run(text("sm_80"), "total", 1, 128, 0, [x, y, 1000])
    np.testing.assert_allclose(y[0], np.where(x < 0, np.exp(x), np.sqrt(np.abs(x))).sum(), rtol=1e-5)


def test_codes():
    rng = np.random.default_rng(2)
    w, x = rng.integers(-128, 128, (9, 4)).astype("i1"), rng.integers(-128, 128, (9, 70, 4)).astype("i1")
    y, scale = np.zeros(70, "i1"), np.array([0.001], np.float32)
    run(text("sm_80"), "codes", 2, 64, 0, [w, x, y, scale, 9, 70])
    sums = (w[:, None].astype("i4") * x).sum((0, 2))
    np.testing.assert_array_equal(y, np.clip(np.rint(sums * scale[0]), -128, 127))


def test_halves():
    x, y = np.random.default_rng(3).random((70, 2)).astype("f2"), np.zeros((70, 2), "f2")
    run(text("sm_80"), "halves", 2, 64, 0, [x, y, 70])
    np.testing.assert_array_equal(y, (x.astype("f8") ** 2 + 0.5).astype("f2"))
