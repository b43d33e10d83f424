"""The C header: programs in C and C++ that are compiled against it, and what they may do wrong."""

from __future__ import annotations

import subprocess
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import onnx
import pytest

from tesa.build.bare.header import header
from tesa.build.bare.network import Tensor
from tesa.build.bare.ports import Api, Size, arguments, ports
from tesa.compiler import compile_model
from tests.frontend.onnx_models import floats
from tests.support import require_system

from .calling import expected
from .test_models import residual_network

PROGRAM = r"""
#include "net.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *what) { printf("failed: %s\n", what); exit(1); }
#define CHECK(x) do { if (!(x)) fail(#x); } while (0)

int main(int argc, char **argv) {
  static float image[8 * 12 * 12], y[5], p[5];
  static float all[8 * 12 * 12 + 1];
  FILE *file = fopen(argv[argc - 1], "rb");
  char *memory = (char *)malloc(net_arena_bytes() + NET_ARENA_ALIGNMENT), *arena = memory;
  char text[256];
  tesa_tensor in, out[2];
  int64_t wrong[4] = {1, 8, 12, 11};
  CHECK(file && fread(image, 4, 8 * 12 * 12, file) == 8 * 12 * 12);
  fclose(file);
  while ((uintptr_t)arena % NET_ARENA_ALIGNMENT) ++arena;
  CHECK(net_run(image, y, p, arena) == TESA_OK);
  printf("%.9g %.9g %.9g %.9g %.9g\n", y[0], y[1], y[2], y[3], y[4]);

  CHECK(net_arena_bytes() == NET_ARENA_BYTES);
  CHECK(net_inputs() == NET_INPUTS && net_outputs() == NET_OUTPUTS && net_sizes() == NET_SIZES);
  CHECK(!net_input(0, 1) && !net_input(1, 0) && !net_input(-1, 0) && !net_output(0, 2) && !net_output(0, -1));
  CHECK(!strcmp(net_input(0, 0)->name, "x") && !strcmp(net_output(0, 1)->name, "p"));
  CHECK(!strcmp(net_target(), NET_TARGET) && !strcmp(net_version(), NET_VERSION) && strlen(net_digest()) == 16);
  CHECK(net_missing(text, sizeof text) == 0 && !text[0] && net_missing(0, 0) == 0);

  CHECK(net_run(0, y, p, arena) == TESA_NULL && net_run(image, 0, p, arena) == TESA_NULL);
  CHECK(net_run(image, y, p, 0) == TESA_NULL);
  CHECK(net_run(image, y, p, arena + 4) == TESA_ALIGNMENT);
  CHECK(net_run((float *)((char *)all + 1), y, p, arena) == TESA_ALIGNMENT);
  memcpy(all + 1, image, sizeof image);
  CHECK(net_run(all + 1, y, p, arena) == TESA_OK);

  in = *net_input(0, 0), out[0] = *net_output(0, 0), out[1] = *net_output(0, 1);
  CHECK(in.rank == 4 && in.shape[3] == 12 && in.type == TESA_FLOAT32 && in.bytes == sizeof image && !in.data);
  CHECK(net_call(&in, 1, out, 2, arena, NET_ARENA_BYTES, 0, 0) == TESA_NULL);
  in.data = image, out[0].data = y, out[1].data = p;
  memset(y, 0, sizeof y);
  CHECK(net_call(&in, 1, out, 2, arena, NET_ARENA_BYTES, 0, 0) == TESA_OK);
  printf("%.9g %.9g %.9g %.9g %.9g\n", y[0], y[1], y[2], y[3], y[4]);
  CHECK(net_call(&in, 0, out, 2, arena, NET_ARENA_BYTES, 0, 0) == TESA_COUNT);
  CHECK(net_call(&in, 1, out, 3, arena, NET_ARENA_BYTES, 0, 0) == TESA_COUNT);
  CHECK(net_call(0, 1, out, 2, arena, NET_ARENA_BYTES, 0, 0) == TESA_NULL);
  CHECK(net_call(&in, 1, out, 2, arena, NET_ARENA_BYTES - 1, 0, 0) == TESA_ARENA);
  CHECK(net_call(&in, 1, out, 2, 0, NET_ARENA_BYTES, 0, 0) == TESA_NULL);
  in.shape = wrong;
  CHECK(net_call(&in, 1, out, 2, arena, NET_ARENA_BYTES, 0, 0) == TESA_SHAPE);
  in.shape = 0;
  CHECK(net_call(&in, 1, out, 2, arena, NET_ARENA_BYTES, 0, 0) == TESA_SHAPE);
  in.shape = net_input(0, 0)->shape, in.rank = 3;
  CHECK(net_call(&in, 1, out, 2, arena, NET_ARENA_BYTES, 0, 0) == TESA_SHAPE);
  in.rank = 4, in.type = TESA_INT32;
  CHECK(net_call(&in, 1, out, 2, arena, NET_ARENA_BYTES, 0, 0) == TESA_TYPE);
  in.type = TESA_FLOAT32, out[1].bytes -= 1;
  CHECK(net_call(&in, 1, out, 2, arena, NET_ARENA_BYTES, 0, 0) == TESA_BYTES);
  CHECK(strlen(net_error(TESA_BYTES)) > 10 && !strcmp(net_error(99), net_error(-1)));
  free(memory);
  return 0;
}
"""


NAMES = "NULL EOF I errno stdin min size_t int64_t uint8_t tesa_task new arena unix".split()
"""Names of tensors that C or its usual headers take for something else."""


def test_names_that_headers_define(tmp_path: Path) -> None:
    gcc, gxx = require_system("gcc", "gcc"), require_system("g++", "g++")
    tensors = [Tensor((2,), dtype) for dtype in islice(cycle(("float32", "int64", "bool")), len(NAMES))]
    unique = arguments()
    inputs = ports(NAMES, tensors, [()] * len(NAMES), unique)
    outputs = ports(NAMES, tensors, [()] * len(NAMES), unique)
    model = Api("net", (Size("main", "", inputs, outputs),), 64, "x86", "0", "0" * 16)
    (tmp_path / "net.h").write_text(header(model))
    ahead = "#define max(a, b) 0\n#define min(a, b) 0\n"
    included = "".join(f"#include <{name}.h>\n" for name in ("assert", "complex", "errno", "math", "stdbool", "stdio"))
    (tmp_path / "app.c").write_text(included + ahead + '#include "net.h"\n')
    for words in ([gcc, "-std=gnu11", "-x", "c"], [gxx, "-std=gnu++17", "-x", "c++"]):
        subprocess.run([*words, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", str(tmp_path / "app.c")], check=True)


@pytest.mark.parametrize("form", ["so", "o", "c"])
def test_a_program_in_c_and_in_cpp(tmp_path: Path, form: str) -> None:
    gcc, gxx = require_system("gcc", "gcc"), require_system("g++", "g++")
    proto = residual_network()
    onnx.save(proto, tmp_path / "model.onnx")
    made = compile_model(tmp_path / "model.onnx", output=tmp_path / f"net.{form}", measure=False, format=form)
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx", f"net.{form}", "net.h", "net.json"}
    (tmp_path / "app.c").write_text(PROGRAM)
    x = floats(1, 8, 12, 12, seed=3)
    x.tofile(tmp_path / "x.bin")
    wanted = expected(proto, {"x": x})["y"][0]
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
    c, cpp = [gcc, "-std=c99", "-x", "c"], [gxx, "-std=c++11", "-x", "c++"]
    library = str(made.path)
    if form == "c":
        library = str(tmp_path / "net.o")
        subprocess.run([gcc, "-std=c99", "-O2", *strict, "-c", str(made.path), "-o", library], check=True)
    for words in (c, cpp):
        files = [str(tmp_path / "app.c"), "-x", "none", library]
        subprocess.run([*words, *strict, *files, "-o", str(tmp_path / "app")], check=True)
        done = subprocess.run(
            [str(tmp_path / "app"), str(tmp_path / "x.bin")], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
        for line in done.stdout.splitlines():
            np.testing.assert_allclose([float(word) for word in line.split()], wanted, rtol=1e-4, atol=1e-5)
