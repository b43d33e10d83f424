"""Which format a target has, what is refused, and that the same input gives the same bytes."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
import tvm
from tvm import relax

from tesa.build.bare.formats import chosen_format
from tesa.build.bare.legal import refuse_what_needs_tvm
from tesa.build.bare.network import calls_of
from tesa.compiler import compile_model
from tesa.errors import UnsupportedError, UsageError
from tesa.targets.target import parse_target
from tests.frontend.onnx_models import floats, model, node, port

from .calling import Library, aligned
from .test_models import residual_network


@pytest.mark.parametrize(
    ("name", "file", "target", "found"),
    [
        (None, "m.so", "x86:haswell", "vm"), (None, "m.o", "x86:haswell", "o"), (None, "m.c", "aarch64", "c"),
        ("so", "m.so", "aarch64", "so"), (None, "m.wasm", "wasm32", "wasm"), (None, "m.so", "wasm32", "wasm"),
        ("o", "m.o", "wasm32", "o"),
    ],
)  # fmt: skip
def test_the_suffix_tells_the_format(name: str | None, file: str, target: str, found: str) -> None:
    assert chosen_format(name, Path(file), parse_target(target)).name == found


def test_what_a_target_does_not_have_is_refused_before_the_work(tmp_path: Path) -> None:
    for name, target, told in (("so", "wasm32", "it has wasm, o"), ("wasm", "x86:haswell", "it has vm, so, o, c")):
        with pytest.raises(UsageError, match=told):
            compile_model(residual_network(), output=tmp_path / "m.so", target=target, format=name)
    with pytest.raises(UsageError, match="unknown format 'exe'; expected one of vm, o, so, c, wasm"):
        compile_model(residual_network(), output=tmp_path / "m.exe", format="exe")
    with pytest.raises(UsageError, match=r"cannot write /proc/m\.o: .*; choose another place"):
        compile_model(residual_network(), output="/proc/m.o")
    with pytest.raises(UsageError, match=r"give a name that ends in \.o$"):
        compile_model(residual_network(), output=tmp_path / "m.so", format="o")
    assert not list(tmp_path.iterdir())


def test_functions_of_a_runtime_are_refused_by_name() -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType([4], "float32"))
    with builder.function("main", [x]):
        made = builder.emit(relax.call_dps_packed("my.own", [x], relax.TensorType([4], "float32")))
        builder.emit_func_output(made)
    with pytest.raises(UnsupportedError, match=r"my\.own: done by TVM's runtime.*--format vm"):
        refuse_what_needs_tvm([builder.get()])


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for form in ("so", "c"):
            compile_model(
                residual_network(), output=tmp_path / folder / f"net.{form}", format=form, measure=False,
                target="x86:haswell",
            )  # fmt: skip
    for name in ("net.so", "net.c", "net.h", "net.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.parametrize("names", [("TARGET", "NAME"), ("threads", "element"), ("NULL", "size_t"), ("outside", "has")])
def test_c_of_a_model_whose_inputs_are_called_as_something_in_it(tmp_path: Path, names: tuple[str, str]) -> None:
    a, b = names
    weight = floats(16, 8)
    proto = model(
        [node("MatMul", [a, "w"], "h"), node("Add", ["h", b], "y")], [port(a, [4, 16]), port(b, [4, 8])], ["y"],
        {"w": weight},
    )  # fmt: skip
    compile_model(proto, output=tmp_path / "lib a-net.c", format="c", measure=False)
    files = [tmp_path / "lib a-net.c", "-o", tmp_path / "lib a-net.so"]
    subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *files], check=True)
    library = Library(tmp_path / "lib a-net.so")
    feeds = {a: floats(4, 16, seed=1), b: floats(4, 8, seed=2)}
    np.testing.assert_allclose(library.run(feeds)["y"], feeds[a] @ weight + feeds[b], rtol=1e-5, atol=1e-5)
    told = library.function("input", ctypes.c_void_p)(0, 0)
    assert ctypes.c_char_p.from_address(told + ctypes.sizeof(ctypes.c_void_p)).value == a.encode()


def test_two_models_of_one_layer_fit_into_one_program(tmp_path: Path) -> None:
    proto = model([node("MatMul", ["x", "w"], "y")], [port("x", [2048, 256])], ["y"], {"w": floats(256, 256)})
    for name in ("one", "two"):
        compile_model(proto, output=tmp_path / f"{name}.c", format="c", measure=False, threads=2)
        assert "_region0" in (tmp_path / f"{name}.c").read_text()
    files = [tmp_path / "one.c", tmp_path / "two.c"]
    subprocess.run(["gcc", "-shared", "-fPIC", *files, "-o", tmp_path / "both.so"], check=True)


def test_memory_that_begins_inside_of_a_tensor_is_not_taken_for_the_tensor() -> None:
    def calls(offset: int) -> object:
        builder = relax.BlockBuilder()
        x = relax.Var("x", relax.TensorType([4], "float32"))
        with builder.function("main", [x]):
            view = relax.op.memory.view(x, shape=[2], dtype="float32", relative_byte_offset=offset)
            builder.emit_func_output(builder.emit(view))
        return calls_of(builder.get(), ["main"], tvm.target.Target("llvm"))

    calls(0)
    with pytest.raises(UnsupportedError, match=r"relax\.memory\.view needs TVM's virtual machine"):
        calls(8)


def test_each_size_has_a_function_and_one_arena_serves_all(tmp_path: Path) -> None:
    weight = floats(16, 8)
    proto = model([node("MatMul", ["x", "w"], "y")], [port("x", ["rows", 16])], ["y"], {"w": weight})
    onnx.save(proto, tmp_path / "model.onnx")
    compile_model(
        tmp_path / "model.onnx", output=tmp_path / "libmy-net.so", format="so", measure=False, shapes={"rows": [2, 5]}
    )
    library = Library(tmp_path / "libmy-net.so")
    assert library.described["library"]["functions"] == ["my_net_run", "my_net_run_1"]
    arena = aligned(library.arena_bytes)
    for name, rows in (("run", 2), ("run_1", 5)):
        x, y = floats(rows, 16, seed=rows), np.zeros((rows, 8), np.float32)
        pointers = [array.ctypes.data_as(library.pointer) for array in (x, y, arena)]
        assert library.function(name)(*pointers) == 0
        np.testing.assert_allclose(y, x @ weight, rtol=1e-5, atol=1e-5)
    assert library.function("sizes")() == 2
