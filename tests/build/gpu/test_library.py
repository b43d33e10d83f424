"""Libraries for GPUs, as they are, on a pretended driver that runs their kernels on NumPy."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tesa.build.gpu.images import build_images
from tesa.build.gpu.library import Port, Program, Size, write_library
from tesa.build.gpu.product import CUBIN, PTX, GpuProduct, Image
from tesa.errors import CheckFailed, ModelError, UsageError
from tesa.measure.reference import Inputs, reference
from tesa.runtime.gpu import GpuLibrary
from tesa.schedules.gpu.unrolled import emit
from tesa.schedules.gpus import GpuCode, GpuText
from tesa.schedules.types import Epilogue, Problem
from tesa.targets.target import Target, parse_target
from tests.gpu.driver import Driver, build
from tests.gpu.kernels import sparse

PROBLEM = Problem("linear", 24, 40, 70, (1, 40, 70), (1, 24, 70), epilogue=Epilogue(True, False, "relu"))
WEIGHT = sparse(24, 40, 0.2)
INPUTS = Inputs.random(PROBLEM)
X, Y = Port("X", PROBLEM.x_shape), Port("Y", PROBLEM.y_shape)


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Driver]:
    folder = tmp_path_factory.mktemp("driver")
    return {"cuda": Driver(build(folder))}


@pytest.fixture
def driver(drivers: dict[str, Driver], monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    found = drivers["cuda"]
    monkeypatch.setenv("TESA_GPU_DRIVER", str(found.path))
    found.faults.clear()
    found.launched.clear()
    yield found.start()
    assert found.faults == []


def code_of(name: str, rows: int = 16) -> tuple[GpuCode, Target]:
    target = parse_target(name)
    assert target.gpu is not None
    config = {"rows": rows, "threads": 64, "groups": 1, "stage": 0}
    return emit(PROBLEM, WEIGHT, target.gpu, config, "k"), target


def program(product: GpuProduct) -> Program:
    rename = {"x": "X", "y": "Y"}
    launches = tuple(
        replace(one, arguments=tuple(rename.get(name, name) for name in one.arguments)) for one in product.launches
    )
    assert INPUTS.bias is not None
    return Program((X,), (Y,), product.modules, launches, {"bias": INPUTS.bias})


def library(path: Path, made: Program, target: Target) -> GpuLibrary:
    write_library(made, path, target, "net", "entry")
    return GpuLibrary(path, "net", "entry")


def right(y: np.ndarray) -> str:
    return reference(PROBLEM, WEIGHT, INPUTS).difference(y)


def test_a_kernel_runs_as_it_is_shipped(driver: Driver, tmp_path: Path) -> None:
    code, target = code_of("cuda:sm_80")
    product = build_images("k", code, target)
    for images, text in zip(product.modules, code.modules, strict=True):
        assert isinstance(text, GpuText)
        driver.know(images, text.text)
    made = library(tmp_path / "k.so", program(product), target)
    assert right(made(INPUTS.x)) == ""
    assert driver.loaded[0][0] == ("binary" if product.modules[0][0].kind == CUBIN else "ptx")
    assert made.time_ms([INPUTS.x], 2) == 0.5


def images(*wanted: tuple[str, str]) -> Program:
    """A program whose images are texts, of which some say that they are cubins."""
    code, _ = code_of("cuda:sm_80")
    (text,) = (module.text for module in code.modules if isinstance(module, GpuText))
    made = tuple(Image(kind, architecture, text.encode() + b"\0") for kind, architecture in wanted)
    return program(GpuProduct("k", (made,), code.launches))


@pytest.mark.parametrize(
    ("has", "sm", "message"),
    [
        ([(CUBIN, "sm_80"), (PTX, "sm_80")], 90, ""),
        ([(CUBIN, "sm_80")], 86, ""),
        ([(CUBIN, "sm_80")], 90, r"device 0 is sm_90.*code for sm_80 \(cubin\); compile it for cuda:sm_90"),
        ([(CUBIN, "sm_86"), (PTX, "sm_86")], 80, "device 0 is sm_80"),
        ([(PTX, "sm_75")], 75, ""),
    ],
)
def test_the_image_is_chosen_by_the_device(
    driver: Driver, tmp_path: Path, has: list[tuple[str, str]], sm: int, message: str
) -> None:
    driver.start(sm=sm)
    made = library(tmp_path / "k.so", images(*has), parse_target("cuda:sm_80"))
    if message:
        with pytest.raises(CheckFailed, match=message):
            made(INPUTS.x)
    else:
        assert right(made(INPUTS.x)) == ""


def test_several_launches_are_a_graph(driver: Driver, tmp_path: Path) -> None:
    code, target = code_of("cuda:sm_80")
    half = code.launches[0]
    # the same work by two launches of one stage, and then once more
    code = replace(code, launches=(half, replace(half, module=1), replace(half, stage=1)), modules=code.modules * 2)
    product = GpuProduct(
        "k", tuple((Image(PTX, "sm_80", m.text.encode() + b"\0"),) for m in code.modules), code.launches
    )  # type: ignore[union-attr]
    made = library(tmp_path / "k.so", program(product), target)
    assert right(made(INPUTS.x)) == ""
    assert right(made(INPUTS.x)) == ""
    assert driver.graphs == 2
    assert len(driver.launched) == 6


@pytest.mark.parametrize(
    ("function", "code", "message"),
    [
        ("cuInit", 100, "a GPU cannot be used"),
        ("cuModuleLoadData", 222, r"the driver, for CUDA 12.2, does not understand the code .* update it"),
        ("cuModuleGetFunction", 500, "named symbol not found"),
        ("cuMemAlloc_v2", 2, "out of memory: .* needs .* bytes on device 0"),
        ("cuLaunchKernel", 700, "illegal memory access"),
        ("cuStreamSynchronize", 700, "the work did not come to its end: .*illegal"),
    ],
)
def test_what_the_driver_refuses_is_told(
    driver: Driver, tmp_path: Path, function: str, code: int, message: str
) -> None:
    made = library(tmp_path / "k.so", images((PTX, "sm_80")), parse_target("cuda"))
    driver.fail(function, code)
    with pytest.raises(CheckFailed, match=message):
        made(INPUTS.x)
    driver.fail("", 0)
    assert right(made(INPUTS.x)) == ""  # nothing is left broken


def test_no_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TESA_GPU_DRIVER", str(tmp_path / "missing.so"))
    made = library(tmp_path / "k.so", images((PTX, "sm_80")), parse_target("cuda"))
    if ctypes.util.find_library("cuda"):
        pytest.skip("this machine has a driver")
    with pytest.raises(CheckFailed, match=r"no driver of a GPU of NVIDIA was found: none of .*missing"):
        made(INPUTS.x)


def test_an_old_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    libc = ctypes.util.find_library("m")
    assert libc is not None
    monkeypatch.setenv("TESA_GPU_DRIVER", libc)
    made = library(tmp_path / "k.so", images((PTX, "sm_80")), parse_target("cuda"))
    with pytest.raises(CheckFailed, match=r"has no cuInit: it is too old, CUDA 11\.4 or newer is needed"):
        made(INPUTS.x)


def test_several_devices(driver: Driver, tmp_path: Path) -> None:
    driver.start(devices=3)
    made = library(tmp_path / "k.so", images((PTX, "sm_80")), parse_target("cuda"))
    for device in (2, 0, 2):
        made.device = device
        assert right(made(INPUTS.x)) == ""
    assert [device for _, device in driver.loaded] == [2, 0]  # loaded once for each
    made.device = 3
    with pytest.raises(CheckFailed, match="there is no device 3; the driver knows 3"):
        made(INPUTS.x)


def test_little_memory(driver: Driver, tmp_path: Path) -> None:
    driver.start(room=1000)
    made = library(tmp_path / "k.so", images((PTX, "sm_80")), parse_target("cuda"))
    with pytest.raises(CheckFailed, match=r"out of memory: X needs 11200 bytes on device 0"):
        made(INPUTS.x)


def test_wrong_arrays(driver: Driver, tmp_path: Path) -> None:
    made = library(tmp_path / "k.so", images((PTX, "sm_80")), parse_target("cuda"))
    with pytest.raises(UsageError, match=r"input X: expected float32 of shape \(1, 40, 70\), got float32 of shape"):
        made(INPUTS.x[:, :20])
    with pytest.raises(UsageError, match=r"takes 1 input\(s\): X; got 2"):
        made(INPUTS.x, INPUTS.x)


def test_pointers_and_devices_are_checked(driver: Driver, tmp_path: Path) -> None:
    driver.start(devices=2)
    made = library(tmp_path / "k.so", images((PTX, "sm_80")), parse_target("cuda"))
    run = made._function("run")
    mock = driver.library
    memory = []
    for device in (0, 1):
        mock.cuCtxSetCurrent(ctypes.c_void_p(device + 1))
        pointer = ctypes.c_void_p()
        mock.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(16384))
        memory.append(pointer.value)

    def call(x: int | None, y: int | None) -> str:
        one, two = (ctypes.c_void_p * 1)(x), (ctypes.c_void_p * 1)(y)
        return made.error() if run(one, two, None) else ""

    ctypes.memmove(memory[1], INPUTS.x.ctypes.data, INPUTS.x.nbytes)
    host = INPUTS.x.copy()
    assert call(memory[0], memory[1]) == "Y: its memory is on device 1, and that of the others on device 0"
    assert "X: its memory is not on a GPU of NVIDIA" in call(host.ctypes.data // 16 * 16, memory[0])
    assert "Y: no memory was given" in call(memory[0], None)
    assert "X: its address is no multiple of 16 bytes" in call((memory[0] or 0) + 4, memory[0])


def test_a_library_that_is_cut_off(driver: Driver, tmp_path: Path) -> None:
    path = tmp_path / "k.so"
    write_library(images((PTX, "sm_80")), path, parse_target("cuda"), "net", "entry")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="cut off"):
        GpuLibrary(path, "net", "entry")


def test_tensors_of_dlpack(driver: Driver, tmp_path: Path) -> None:
    made = library(tmp_path / "k.so", images((PTX, "sm_80")), parse_target("cuda"))
    with pytest.raises(ValueError, match="X: expected a tensor on a GPU of NVIDIA"):
        made._packed(INPUTS.x, np.empty(PROBLEM.y_shape, np.float32))
    with pytest.raises(TypeError, match="expected 2 tensors"):
        made._packed(INPUTS.x)


def test_the_same_program_gives_the_same_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "k.so", tmp_path / "b" / "k.so"]
    for path in paths:
        path.parent.mkdir()
        write_library(images((PTX, "sm_80")), path, parse_target("cuda"), "net", "entry")
    assert paths[0].read_bytes() == paths[1].read_bytes()


SHORT = replace(PROBLEM, n=24, x_shape=(1, 40, 24), y_shape=(1, 24, 24))


def two_sizes() -> Program:
    """The kernel for 70 columns and for 24, with one bias."""
    code, target = code_of("cuda:sm_80")
    assert target.gpu is not None
    more = emit(SHORT, WEIGHT, target.gpu, {"rows": 16, "threads": 64, "groups": 1, "stage": 0}, "m")
    texts = [module.text for one in (code, more) for module in one.modules if isinstance(module, GpuText)]
    modules = tuple((Image(PTX, "sm_80", text.encode() + b"\0"),) for text in texts)
    first = program(GpuProduct("k", modules, code.launches))
    second = program(
        GpuProduct("m", (), tuple(replace(one, module=one.module + len(code.modules)) for one in more.launches))
    )
    size = Size((Port("X", SHORT.x_shape),), (Port("Y", SHORT.y_shape),), second.launches)
    return replace(first, others=(size,))


def test_a_library_of_two_sizes(driver: Driver, tmp_path: Path) -> None:
    made = library(tmp_path / "k.so", two_sizes(), parse_target("cuda"))
    inputs = replace(Inputs.random(SHORT), bias=INPUTS.bias)
    short = made.at(1)
    for _ in range(2):
        assert right(made(INPUTS.x)) == ""
        assert reference(SHORT, WEIGHT, inputs).difference(short(inputs.x)) == ""
    assert [one["shape"] for one in short.outputs] == [[1, 24, 24]]
    with pytest.raises(
        UsageError, match=r"expected float32 of shape \(1, 40, 24\), got float32 of shape \(1, 40, 70\)"
    ):
        short(INPUTS.x)


class _Tensor(ctypes.Structure):
    """A tensor of DLPack, of float32 on a GPU of NVIDIA."""

    _fields_ = [
        ("data", ctypes.c_void_p), ("device", ctypes.c_int * 2), ("ndim", ctypes.c_int), ("dtype", ctypes.c_uint8 * 4),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.c_void_p), ("offset", ctypes.c_uint64),
    ]  # fmt: skip


class _Argument(ctypes.Structure):
    """An argument of TVM's FFI that is a pointer to a tensor."""

    _fields_ = [("kind", ctypes.c_int32), ("padding", ctypes.c_uint32), ("pointer", ctypes.c_void_p)]


def test_a_packed_function_takes_the_size_of_its_inputs(driver: Driver, tmp_path: Path) -> None:
    made = library(tmp_path / "k.so", two_sizes(), parse_target("cuda"))
    kept: list[object] = []

    def tensor(shape: tuple[int, ...]) -> tuple[_Argument, int]:
        place = ctypes.c_void_p()
        driver.library.cuMemAlloc_v2(ctypes.byref(place), ctypes.c_size_t(4 * int(np.prod(shape))))
        extents = (ctypes.c_int64 * len(shape))(*shape)
        one = _Tensor(place.value, (2, 0), len(shape), (2, 32, 1, 0), extents, None, 0)
        kept.extend([extents, one])
        return _Argument(7, 0, ctypes.addressof(one)), int(place.value or 0)

    def call(name: str, x_shape: tuple[int, ...], y_shape: tuple[int, ...], x: np.ndarray) -> tuple[str, np.ndarray]:
        (one, at), (two, result) = tensor(x_shape), tensor(y_shape)
        ctypes.memmove(at, np.ascontiguousarray(x).ctypes.data, x.nbytes)
        answer = _Argument()
        code = getattr(made._library, f"__tvm_ffi_{name}")(None, (_Argument * 2)(one, two), 2, ctypes.byref(answer))
        y = np.empty(y_shape, np.float32)
        ctypes.memmove(y.ctypes.data, result, y.nbytes)
        return made.error() if code else "", y

    inputs = replace(Inputs.random(SHORT), bias=INPUTS.bias)
    for name in ("entry", "entry_1"):
        said, y = call(name, SHORT.x_shape, SHORT.y_shape, inputs.x)
        assert said == ""
        assert reference(SHORT, WEIGHT, inputs).difference(y) == ""
    said, y = call("entry", PROBLEM.x_shape, PROBLEM.y_shape, INPUTS.x)
    assert (said, right(y)) == ("", "")
    said, _ = call("entry", (1, 40, 8), (1, 24, 8), INPUTS.x[..., :8])
    assert said == (
        "the model was compiled for inputs of the shapes [1, 40, 70]; [1, 40, 24], and for no others; got [1, 40, 8]"
    )
    said, _ = call("entry", SHORT.x_shape, PROBLEM.y_shape, inputs.x)
    assert said == "Y: expected the shape [1, 24, 24]"


def test_a_graph_that_could_not_be_made_is_made_anew(driver: Driver, tmp_path: Path) -> None:
    code, _ = code_of("cuda:sm_80")
    two = (code.launches[0], replace(code.launches[0], stage=1))
    (text,) = (module.text for module in code.modules if isinstance(module, GpuText))
    product = GpuProduct("k", ((Image(PTX, "sm_80", text.encode() + b"\0"),),), two)
    made = library(tmp_path / "k.so", program(product), parse_target("cuda"))
    driver.fail("cuGraphInstantiateWithFlags", 2)
    with pytest.raises(CheckFailed, match="cuGraphInstantiate: the GPU driver says: out of memory"):
        made(INPUTS.x)
    driver.fail("", 0)
    driver.launched.clear()
    assert right(made(INPUTS.x)) == ""
    assert len(driver.launched) == 2, "the launches of the first try are not made again"
