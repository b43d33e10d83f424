"""The most that one core of this machine computes and reads, measured: the roof under which kernels are drawn.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", CACM 2009.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from ctypes import CDLL, c_double, c_long, c_void_p
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle
from pathlib import Path

import numpy as np

from tesa.base.scratch import Scratch
from tesa.targets.target import Target

_CHAINS = 16  # multiply-adds under way at once: more than their latency times how many start in a cycle
_ROUNDS = 50_000  # short, so that one of the tries meets a quiet moment
_READ_BYTES = 256 << 20  # beyond any cache
_TRIES = 48
_PIECE_BYTES = 8 << 20  # of what is read in one try

_SOURCE = """
#if defined(__AVX512VNNI__) && LANES == 16
#include <immintrin.h>
typedef __m512i dots;
#define DOT _mm512_dpbusd_epi32
#define SPREAD _mm512_set1_epi32
#elif defined(__AVXVNNI__) && LANES == 8
#include <immintrin.h>
typedef __m256i dots;
#define DOT _mm256_dpbusd_avx_epi32
#define SPREAD _mm256_set1_epi32
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
typedef int32x4_t dots;
#define DOT(sum, x, y) vdotq_s32(sum, vreinterpretq_s8_s32(x), vreinterpretq_s8_s32(y))
#define SPREAD vdupq_n_s32
#endif
#ifdef DOT
int codes(long rounds) {
  dots sums[CHAINS], x = SPREAD(0x03030303), y = SPREAD(0x05050505);
  for (int i = 0; i < CHAINS; ++i) sums[i] = SPREAD(i);
  for (long round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < CHAINS; ++i) sums[i] = DOT(sums[i], x, y);
    __asm__ volatile("" ::: "memory");
  }
  int total = 0;
  for (int i = 0; i < CHAINS; ++i) total += ((int *)&sums[i])[0];
  return total;
}
#endif
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4)));
double products(long rounds) {
  vec sums[CHAINS], x = {0}, y = {0};
  x += 0.9999f; y += 0.0001f;
  for (int i = 0; i < CHAINS; ++i) { vec zero = {0}; sums[i] = zero + (float)i; }
  for (long round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < CHAINS; ++i) sums[i] = sums[i] * x + y;
    __asm__ volatile("" ::: "memory");
  }
  vec total = sums[0];
  for (int i = 1; i < CHAINS; ++i) total += sums[i];
  return total[0];
}
double reads(const float *data, long count) {
  vec sums[8];
  for (int i = 0; i < 8; ++i) { vec zero = {0}; sums[i] = zero; }
  for (long at = 0; at + 8 * LANES <= count; at += 8 * LANES)
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) sums[i] += *(const vec *)(data + at + i * LANES);
  vec total = sums[0];
  for (int i = 1; i < 8; ++i) total += sums[i];
  return total[0];
}
"""


@dataclass(frozen=True)
class Peak:
    """gflops: billions of float32 operations a second on one core, a multiply-add being two; int8_gops: of int8 ones, 0
    without an instruction for their products; gbytes: billions of bytes a second that one core reads from memory."""

    gflops: float
    gbytes: float
    int8_gops: float = 0.0


@lru_cache(maxsize=4)
def peak(target: Target) -> Peak:
    """The peak of one core of this machine, with the registers of a target's core. It takes about half a second.

    Raises UsageError without a C compiler.
    """
    code, data = _loops(target), np.ones((_READ_BYTES // _PIECE_BYTES, _PIECE_BYTES // 4), np.float32)
    places = cycle([row.ctypes.data_as(c_void_p) for row in data])
    products = 2.0 * _CHAINS * target.core.lanes * _ROUNDS
    computing = _least(lambda: code.products(_ROUNDS))
    reading = _least(lambda: code.reads(next(places), _PIECE_BYTES // 4))
    gops = 4 * products / _least(lambda: code.codes(_ROUNDS)) / 1e9 if hasattr(code, "codes") else 0.0
    return Peak(products / computing / 1e9, _PIECE_BYTES / reading / 1e9, gops)


def read_rate(target: Target, size: int) -> float:
    """Billions of bytes a second when the same `size` bytes are read again and again, from what cache holds them."""
    data = np.ones(max(size // 4, 256), np.float32)
    code, place = _loops(target), data.ctypes.data_as(c_void_p)
    return data.nbytes / _least(lambda: code.reads(place, data.size), 12) / 1e9


@lru_cache(maxsize=4)
def _loops(target: Target) -> CDLL:
    options = ["-O3", "-march=native", "-ffp-contract=fast", f"-DLANES={target.core.lanes}", f"-DCHAINS={_CHAINS}"]
    with Scratch() as name:
        made, library = Path(name) / "peak.o", Path(name) / "peak.so"
        target.toolchain.compile(_SOURCE, made, options)
        target.toolchain.link([made], library)
        code = CDLL(str(library))
    code.products.restype, code.products.argtypes = c_double, [c_long]
    code.reads.restype, code.reads.argtypes = c_double, [c_void_p, c_long]
    if hasattr(code, "codes"):
        code.codes.argtypes = [c_long]
    return code


def _least(function: Callable[[], object], tries: int = _TRIES) -> float:
    """Seconds of the fastest of some calls."""
    times = []
    for _ in range(tries):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)
