"""What the machine can do at most, measured: FMA and VNNI from registers, reading from memory."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from ctypes import CDLL, c_double, c_long, c_void_p
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tesa.targets.toolchain import NATIVE

# Twelve independent accumulators hide the latency of an instruction; the loop is too short to leave the micro-op cache.
SOURCE = """
#include <immintrin.h>
double fma_loop(long rounds) {
  VEC a[12]; VEC x = SET1(1.0000001f), y = SET1(0.9999999f);
  for (int i = 0; i < 12; ++i) a[i] = SET1((float)i);
  for (long r = 0; r < rounds; ++r) {
    for (int i = 0; i < 12; ++i) a[i] = FMA(x, y, a[i]);
    __asm__ volatile("" : "+x"(x), "+x"(y));
  }
  VEC s = a[0];
  for (int i = 1; i < 12; ++i) s = ADD(s, a[i]);
  return ((float *)&s)[0];
}
double read_loop(const float *p, long elements) {
  VEC a[8];
  for (int i = 0; i < 8; ++i) a[i] = SET1(0.0f);
  for (long e = 0; e + 8 * LANES <= elements; e += 8 * LANES)
    for (int i = 0; i < 8; ++i) a[i] = ADD(a[i], LOAD(p + e + i * LANES));
  VEC s = a[0];
  for (int i = 1; i < 8; ++i) s = ADD(s, a[i]);
  return ((float *)&s)[0];
}
#ifdef __AVX512VNNI__
double dot_loop(long rounds) {
  __m512i a[12]; __m512i x = _mm512_set1_epi8(3), y = _mm512_set1_epi8(5);
  for (int i = 0; i < 12; ++i) a[i] = _mm512_set1_epi32(i);
  for (long r = 0; r < rounds; ++r) {
    for (int i = 0; i < 12; ++i) a[i] = _mm512_dpbusd_epi32(a[i], x, y);
    __asm__ volatile("" : "+x"(x), "+x"(y));
  }
  __m512i s = a[0];
  for (int i = 1; i < 12; ++i) s = _mm512_add_epi32(s, a[i]);
  return ((int *)&s)[0];
}
#endif
"""
VECTORS = {
    16: {"VEC": "__m512", "SET1": "_mm512_set1_ps", "FMA": "_mm512_fmadd_ps", "ADD": "_mm512_add_ps",
         "LOAD": "_mm512_loadu_ps", "LANES": "16"},
    8: {"VEC": "__m256", "SET1": "_mm256_set1_ps", "FMA": "_mm256_fmadd_ps", "ADD": "_mm256_add_ps",
        "LOAD": "_mm256_loadu_ps", "LANES": "8"},
}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """Of one thread. fma: GFLOP/s; dot: int8 GOP/s, 0 without VNNI; read: GB/s from memory beyond the caches.

    reader: the loop behind `read`, for other sizes.
    """

    fma: float
    dot: float
    read: float
    reader: Callable[..., float]

    def read_rate(self, size: int) -> float:
        """GB/s when the same `size` bytes are read over and over, from whatever cache or memory holds them."""
        array = np.ones(max(size // 4, 256), np.float32)
        best = 0.0
        for _ in range(12):
            start = time.perf_counter()
            self.reader(array.ctypes.data_as(c_void_p), array.size)
            best = max(best, array.nbytes / (time.perf_counter() - start))
        return best / 1e9


def measure_limits(lanes: int) -> Limits:
    """Measure the limits of this machine. lanes: float32 numbers in a vector, 8 or 16."""
    with tempfile.TemporaryDirectory() as name:
        source, library = Path(name) / "limits.c", Path(name) / "limits.so"
        source.write_text(SOURCE)
        words = [f"-D{key}={value}" for key, value in VECTORS[lanes].items()]
        flags = ["-O3", "-funroll-loops", "-march=native", "-shared", "-fPIC", "-x", "c"]
        subprocess.run([NATIVE.compiler(), *flags, *words, str(source), "-o", str(library)], check=True)
        code = CDLL(str(library))
        fma = _rate(code.fma_loop) * 12 * 2 * lanes
        dot = _rate(code.dot_loop) * 12 * 2 * 64 if hasattr(code, "dot_loop") else 0.0
        code.read_loop.restype, code.read_loop.argtypes = c_double, [c_void_p, c_long]
        limits = Limits(fma / 1e9, dot / 1e9, 0.0, code.read_loop)
    return replace(limits, read=limits.read_rate(512 << 20))


def _rate(function: Callable[..., float]) -> float:
    """Rounds a second, the best of several tries: the machine may be shared."""
    function.restype, function.argtypes = c_double, [c_long]  # type: ignore[attr-defined]
    rounds, best = 2_000_000, 0.0
    for _ in range(15):
        start = time.perf_counter()
        function(rounds)
        best = max(best, rounds / (time.perf_counter() - start))
    return best
