"""Files of WebAssembly: two models in one program, and what a checksum tells of."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tesa.base.wasm_sections import SUM, changed, number, sections, written
from tesa.build.bare.library import library_objects
from tesa.build.bare.wasm_file import with_sum
from tesa.compiler import compile_model
from tesa.errors import ModelError
from tesa.runtime import load
from tesa.targets.target import parse_target
from tests.node import require_node
from tests.runtime.models import mlp

TARGET = parse_target("wasm32")
EMPTY = b"\0asm\1\0\0\0"


def test_two_models_are_linked_into_one_program(tmp_path: Path) -> None:
    """Of one network, so that their kernels have the same names."""
    require_node()
    names, x = ("first", "second"), np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    objects = []
    for name in names:
        compile_model(mlp(), output=tmp_path / f"{name}.o", target="wasm32", measure=False)
        objects.append(tmp_path / f"{name}.o")
    for i, content in enumerate(library_objects(TARGET)):
        objects.append(tmp_path / f"library{i}.o")
        objects[-1].write_bytes(content)
    compile_model(mlp(), output=tmp_path / "alone.wasm", target="wasm32", measure=False)
    wanted = load(tmp_path / "alone.wasm")({"x": x})["y"]
    for name in names:
        path = tmp_path / f"both_{name}.wasm"
        wanted_names = ("run", "arena_bytes", "digest", "error")
        TARGET.toolchain.link(objects, path, [f"--export={one}_{word}" for one in names[::-1] for word in wanted_names
                                              if one == name or word == "run"])  # fmt: skip
        shutil.copy(tmp_path / f"{name}.json", path.with_suffix(".json"))
        np.testing.assert_array_equal(load(path)({"x": x})["y"], wanted)


def test_a_changed_module_is_refused(tmp_path: Path) -> None:
    require_node()
    path = tmp_path / "model.wasm"
    compile_model(mlp(), output=path, target="wasm32", measure=False)
    content = path.read_bytes()
    (data,) = (start for kind, _, start, _, _ in sections(content) if kind == 11)
    place = content.rindex(mlp().graph.initializer[0].raw_data[:4], data)
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(ModelError, match="its checksum is of another file, it was changed or cut off"):
        load(path)
    path.write_bytes(content[:-1])
    with pytest.raises(ModelError, match="cannot be loaded as WebAssembly"):
        load(path)


def test_sections_and_their_sum() -> None:
    assert [number(written(value), 0)[0] for value in (0, 127, 128, 300, 2**31)] == [0, 127, 128, 300, 2**31]
    module = EMPTY + b"\1\1\0"
    summed = with_sum(module)
    assert [(kind, name) for kind, name, *_ in sections(summed)] == [(1, ""), (0, SUM)]
    assert not changed(module)
    assert not changed(summed)
    for place in (8, 10, len(summed) - 1):
        damaged = bytearray(summed)
        damaged[place] ^= 1
        assert changed(bytes(damaged)) or place == 8, place
    assert changed(summed[: len(module) + 1])
