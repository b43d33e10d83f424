"""Runs OpenCL source on the CPU through ctypes: it knows arrays and launches, and nothing of TVM.

As a program, `python opencl_device.py FOLDER`, it runs what `save` has put into a folder: so a checker of OpenCL, which
has to start the process, sees nothing but the kernels.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Sequence
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_ulong, c_void_p
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

LIBRARY = "libOpenCL.so.1"
OPTIONS = b"-cl-opt-disable"
"""Of the compiler: a kernel runs once, for a moment, and compiling it is what takes the time."""

_EXTENSIONS, _BUILD_LOG = 0x1030, 0x1183
_READ_WRITE, _COPY = 1, 32


class Launch(NamedTuple):
    """A kernel's launch. arguments: ("array", its number) or ("int", a number) each; grid: blocks; block: threads."""

    kernel: str
    arguments: tuple[tuple[str, int], ...]
    grid: tuple[int, int, int]
    block: tuple[int, int, int]


class OpenClError(Exception):
    """The OpenCL library refuses something; the text says what."""


def devices() -> list[tuple[Any, str]]:
    """Every device of every platform and its extensions. OSError where there is no OpenCL library."""
    cl, found = _library(), []
    for platform in _ids(lambda n, out, count: cl.clGetPlatformIDs(n, out, count)):
        for device in _ids(lambda n, out, count, p=platform: cl.clGetDeviceIDs(p, c_ulong(0xFFFFFFFF), n, out, count)):
            size = c_size_t()
            cl.clGetDeviceInfo(device, _EXTENSIONS, 0, None, byref(size))
            text = ctypes.create_string_buffer(size.value)
            cl.clGetDeviceInfo(device, _EXTENSIONS, size.value, text, None)
            found.append((device, text.value.decode()))
    return found


def run(source: str, launches: Sequence[Launch], arrays: Sequence[np.ndarray], halves: bool = False) -> None:
    """Run launches one after the other on arrays, which change in place. halves: on a device that computes in fp16."""
    cl = _library()
    context, queue, program = _program(source, halves)
    buffers = [_buffer(cl, context, array) for array in arrays]
    for launch in launches:
        _launch(cl, queue, program, launch, buffers)
    for buffer, array in zip(buffers, arrays, strict=True):
        size = c_size_t(array.nbytes)
        where = array.ctypes.data_as(c_void_p)
        _check("clEnqueueReadBuffer", cl.clEnqueueReadBuffer(queue, buffer, 1, c_size_t(0), size, where, 0, None, None))
        cl.clReleaseMemObject(buffer)


def save(folder: Path, source: str, launches: Sequence[Launch], arrays: Sequence[np.ndarray], halves: bool) -> None:
    """Write a run into a folder, for this file as a program."""
    (folder / "kernels.cl").write_text(source)
    (folder / "launches.json").write_text(json.dumps({"halves": halves, "launches": [list(one) for one in launches]}))
    np.savez(folder / "arrays.npz", *arrays)


def load(folder: Path) -> list[np.ndarray]:
    """The arrays of a folder, in their order."""
    with np.load(folder / "arrays.npz") as found:
        return [found[f"arr_{i}"] for i in range(len(found.files))]


@lru_cache(maxsize=8)
def _program(source: str, halves: bool) -> tuple[Any, Any, Any]:
    """The context, queue and program of a source, which are built once for many calls."""
    cl, error = _library(), c_int()
    device = next((one for one, has in devices() if not halves or "cl_khr_fp16" in has.split()), None)
    if device is None:
        raise OpenClError("no OpenCL device" + (" with fp16" if halves else ""))
    context = c_void_p(cl.clCreateContext(None, 1, byref(device), None, None, byref(error)))
    _check("clCreateContext", error.value)
    queue = c_void_p(cl.clCreateCommandQueue(context, device, c_ulong(0), byref(error)))
    _check("clCreateCommandQueue", error.value)
    return context, queue, _build(cl, context, device, source)


def _build(cl: Any, context: Any, device: Any, source: str) -> Any:
    error, text = c_int(), source.encode()
    program = c_void_p(cl.clCreateProgramWithSource(context, 1, byref(c_char_p(text)), None, byref(error)))
    _check("clCreateProgramWithSource", error.value)
    if cl.clBuildProgram(program, 1, byref(device), OPTIONS, None, None):
        log = ctypes.create_string_buffer(1 << 16)
        cl.clGetProgramBuildInfo(program, device, _BUILD_LOG, len(log), log, None)
        raise OpenClError(f"OpenCL refuses the source: {log.value.decode(errors='replace')[:2000]}\n{source[:2000]}")
    return program


def _buffer(cl: Any, context: Any, array: np.ndarray) -> Any:
    error = c_int()
    if not array.flags.c_contiguous or not array.nbytes:
        raise OpenClError("arrays have to be contiguous, with at least one element")
    where = array.ctypes.data_as(c_void_p)
    flags = c_ulong(_READ_WRITE | _COPY)
    made = c_void_p(cl.clCreateBuffer(context, flags, c_size_t(array.nbytes), where, byref(error)))
    _check("clCreateBuffer", error.value)
    return made


def _launch(cl: Any, queue: Any, program: Any, launch: Launch, buffers: Sequence[Any]) -> None:
    error = c_int()
    kernel = c_void_p(cl.clCreateKernel(program, launch.kernel.encode(), byref(error)))
    _check(f"clCreateKernel {launch.kernel}", error.value)
    for place, (kind, value) in enumerate(launch.arguments):
        argument = buffers[value] if kind == "array" else c_int(value)
        size = c_size_t(ctypes.sizeof(argument))
        _check("clSetKernelArg", cl.clSetKernelArg(kernel, c_uint(place), size, byref(argument)))
    three = c_size_t * 3
    local, everything = three(*launch.block), three(*(g * b for g, b in zip(launch.grid, launch.block, strict=True)))
    done = cl.clEnqueueNDRangeKernel(queue, kernel, 3, None, everything, local, 0, None, None)
    _check(f"clEnqueueNDRangeKernel {launch}", done)
    _check("clFinish", cl.clFinish(queue))
    cl.clReleaseKernel(kernel)


def _library() -> Any:
    # a checker that is loaded in front of everything takes the place of the library
    cl = ctypes.CDLL(None if "oclgrind" in os.environ.get("LD_PRELOAD", "") else LIBRARY)
    for name in ("Context", "CommandQueue", "ProgramWithSource", "Buffer", "Kernel"):
        getattr(cl, f"clCreate{name}").restype = c_void_p
    return cl


def _ids(ask: Any) -> list[Any]:
    count = c_uint()
    if ask(0, None, byref(count)) or not count.value:
        return []
    found = (c_void_p * count.value)()
    ask(count, found, None)
    return [c_void_p(one) for one in found]


def _check(what: str, code: int) -> None:
    if code:
        raise OpenClError(f"{what} gives error {code}")


def _main(folder: Path) -> None:
    given = json.loads((folder / "launches.json").read_text())
    launches = [Launch(name, tuple(map(tuple, args)), tuple(g), tuple(b)) for name, args, g, b in given["launches"]]
    arrays = load(folder)
    run((folder / "kernels.cl").read_text(), launches, arrays, given["halves"])
    np.savez(folder / "arrays.npz", *arrays)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
