"""The bytes of kernels: of object files, and of the constants by what they are."""

from __future__ import annotations

import numpy as np
import pytest

from tesa.build.compile import object_of
from tesa.build.footprint import Footprint, code_bytes, footprint
from tesa.decompose.candidates import candidates
from tesa.schedules.registry import find
from tesa.schedules.types import Assembly, Code, Problem
from tesa.targets.target import parse_target
from tests.build import toy


def test_code_and_tables_of_an_elf_object_count_and_nothing_else() -> None:
    text = ".text\n.globl many\nmany:\n.zero 96\n.section .rodata\n.zero 40\n.bss\n.zero 1000\n"
    assert code_bytes(object_of(Assembly("many", text), toy.TARGET.tvm)) == 96 + 40


def test_code_of_webassembly_counts() -> None:
    size = 300
    section = bytes([10, 0x80 | (size & 0x7F), size >> 7]) + bytes(size)
    assert code_bytes(b"\0asm\1\0\0\0" + bytes([1, 3, 0, 0, 0]) + section) == size


def test_an_unknown_format_counts_whole() -> None:
    assert code_bytes(b"MZ" + bytes(98)) == 100


@pytest.mark.parametrize(("dtype", "storage", "n"), [("float32", "float32", 32), ("float32", "bfloat16", 1),
                                                     ("float32", "float16", 1), ("int8", "float32", 32)])  # fmt: skip
@pytest.mark.parametrize("target", ["x86:skylake-avx512", "aarch64:neoverse-n1", "wasm32"])
def test_values_and_indices_of_every_family(target: str, dtype: str, storage: str, n: int) -> None:
    """The values of a dense kernel hold every weight, those of a sparse one the live ones; all else is indices."""
    rng = np.random.default_rng(3)
    weight = (rng.integers(-3, 4, (32, 64)) * (rng.random((32, 64)) < 0.4)).astype(np.float32)
    problem = Problem("linear", 32, 64, n, (64, n), (32, n), dtype=dtype, storage=storage)
    where = parse_target(target)
    seen = set()
    for name, config in candidates(problem, weight, where):
        if name in seen:
            continue
        seen.add(name)
        code = find(name, where.kind).emit(problem, weight, where.core, config, "s")
        size = footprint(code, problem, [])
        assert size.values + size.indices == sum(c.nbytes for c in code.constants)
        if name == "unrolled":
            assert size.values == 0
            continue
        width = 1 if dtype == "int8" else 2 if storage != "float32" and name in ("vector", "sliced") else 4
        needed = weight.size if name == "dense" else np.count_nonzero(weight)
        assert size.values >= needed * width, name
    assert len(seen) > 1


def test_the_constants_of_pieces_are_told_apart_as_their_own() -> None:
    values, places = np.zeros(3, np.float32), np.zeros(5, np.int32)
    piece = Code(None, (values, places))
    whole = Code(None, (values, places, values, places), pieces=(("a", piece), ("b", piece)))
    problem = Problem("linear", 4, 4, 1, (4, 1), (4, 1))
    assert footprint(whole, problem, [b"12345"]) == Footprint(5, 24, 40)
