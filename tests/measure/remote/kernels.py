"""Kernels of the toy layer in C, and the ways in which a candidate may go wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tesa.build.product import Product
from tesa.targets.toolchain import NATIVE
from tests.build import toy

PROBLEM = toy.linear()
WEIGHT = toy.weight(PROBLEM)

_SOURCE = r"""
#include <stdio.h>
#include <unistd.h>
#include <tvm/ffi/c_api.h>
static float *data(const TVMFFIAny *arg) {
  DLTensor *t = (DLTensor *)arg->v_ptr;
  if (arg->type_index == kTVMFFITensor) t = (DLTensor *)((char *)arg->v_obj + sizeof(TVMFFIObject));
  return (float *)((char *)t->data + t->byte_offset);
}
int SYMBOL(void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result) {
  if (count != 3) {
    TVMFFIErrorSetRaisedFromCStr("TypeError", "takes X, W and Y");
    return -1;
  }
  const float *x = data(args), *w = data(args + 1);
  float *y = data(args + 2), off = 0;
  BEFORE
  for (int i = 0; i < M; i++)
    for (int j = 0; j < N; j++) {
      float sum = off;
      for (int k = 0; k < K; k++) sum += w[i * K + k] * x[k * N + j];
      y[i * N + j] = sum;
    }
  AFTER
  return 0;
}
"""


def kernel(folder: Path, name: str, before: str = "", after: str = "") -> Product:
    """Y = W X, with C code before and after it."""
    from tvm_ffi import libinfo

    symbol = f"tesa_{name}"
    sizes = {"M": PROBLEM.m, "N": PROBLEM.n, "K": PROBLEM.k, "SYMBOL": f"__tvm_ffi_{symbol}"}
    macros = {**sizes, "BEFORE": before, "AFTER": after}
    path = folder / f"{symbol}.o"
    headers = [f"-I{libinfo.find_include_path()}", f"-I{libinfo.find_dlpack_include_path()}"]
    words = [NATIVE.compiler(), "-x", "c", "-O2", "-fPIC", *headers, "-c", "-o", str(path)]
    words += [f"-D{macro}={value}" for macro, value in macros.items()]
    subprocess.run([*words, "-"], input=_SOURCE, text=True, check=True)
    return Product(symbol, (path,), (WEIGHT,))


def right(folder: Path, name: str = "right") -> Product:
    """Does what it should."""
    return kernel(folder, name)


def off(folder: Path) -> Product:
    """Is wrong by 0.01 everywhere."""
    return kernel(folder, "off", "off = 0.01f;")


def crashing(folder: Path) -> Product:
    """Writes to address 0."""
    return kernel(folder, "crash", "*(volatile int *)0 = 1;")


def endless(folder: Path) -> Product:
    """Never returns."""
    return kernel(folder, "endless", "for (;;) usleep(1000);")


def outside(folder: Path) -> Product:
    """Writes one element behind its result."""
    return kernel(folder, "outside", after="y[M * N] = 0;")


def waiting(folder: Path, name: str, pids: Path, go: Path) -> Product:
    """Tells its process id in the file pids, then waits for the file go before it computes."""
    tell = f'FILE *file = fopen("{pids}", "a"); fprintf(file, "%d\\n", getpid()); fclose(file);'
    return kernel(folder, name, f'{tell} while (access("{go}", F_OK)) usleep(2000);')
