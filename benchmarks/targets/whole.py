"""Executed instructions of whole networks for 64-bit ARM, exactly: one call in an emulator, with a plugin that counts.

Networks are compiled without measuring and without a runtime. Their numbers are compared with onnxruntime's.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from benchmarks import prune, zoo
from tesa import models
from tesa.compiler import compile_model
from tesa.measure import emulated
from tesa.targets.target import Target
from tests.emulated.programs import counting

_MARKED = """
#include <unistd.h>
#include <sys/syscall.h>
int __real_net_call(void *, int, void *, int, void *, unsigned long, void *, void *);
int __wrap_net_call(void *a, int b, void *c, int d, void *e, unsigned long f, void *g, void *h) {
  syscall(5000, 0, 0);
  int status = __real_net_call(a, b, c, d, e, f, g, h);
  syscall(5000, 0, 1);
  return status;
}
"""
"""A call of the model between the two marks that the plugin counts between."""


@dataclass(frozen=True)
class Network:
    """A network and its twin whose weights are dense. name: as a table says it. feeds: its inputs."""

    name: str
    sparse: Any
    dense: Any
    feeds: dict[str, Any]


def networks() -> list[Network]:
    """MobileNet-v1 in blocks and scattered, and the digits model of the package."""
    mobilenet = zoo.mobilenet_v1()
    kinds: dict[str, Callable[[Any], prune.Masks]] = {
        "MobileNet-v1, 16x1 30 %": partial(prune.block, ratio=0.3, shape=(16, 1)),
        "MobileNet-v1, unstructured 90 %": partial(prune.fine, ratio=0.9),
    }
    found = [
        Network(name, prune.masked(mobilenet, masks(mobilenet)), mobilenet, zoo.feeds(mobilenet))
        for name, masks in kinds.items()
    ]
    digits = onnx.load(models.digits_path())
    return [*found, Network("digits, 90 %", digits, filled(digits), {"image": models.digits_images()[:1]})]


def filled(proto: Any) -> Any:
    """The network with small random numbers in the place of zeros."""
    rng, copy = np.random.default_rng(0), type(proto)()
    copy.CopyFrom(proto)
    for tensor in copy.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.ndim > 1:
            noise = (0.01 * rng.standard_normal(array.shape)).astype(array.dtype)
            tensor.CopyFrom(numpy_helper.from_array(np.where(array == 0, noise, array), tensor.name))
    return copy


def counted(proto: Any, feeds: dict[str, Any], target: Target) -> tuple[float, str]:
    """Millions of instructions of one call, and what is wrong with its results in words, "" for nothing."""
    with tempfile.TemporaryDirectory(prefix="tesa-") as name:
        folder = Path(name)
        onnx.save(proto, folder / "model.onnx")
        compiled = compile_model(
            folder / "model.onnx", output=folder / "net.o", format="o", target=target.tvm, measure=False
        )
        source = Path(emulated.__file__).with_name("model.c")
        (folder / "marked.c").write_text(_MARKED)
        words = ["aarch64-linux-gnu-gcc", "-O1", "-static", "-DMODEL=net", '-DHEADER="net.h"', f"-I{folder}"]
        words += [str(source), str(folder / "marked.c"), str(compiled.path), "-Wl,--wrap=net_call", "-lm"]
        subprocess.run([*words, "-o", str(folder / "program")], check=True)
        given = [np.ascontiguousarray(feeds[port.name]).tobytes() for port in compiled.inputs]
        (folder / "inputs").write_bytes(b"".join(given))
        arguments = [str(folder / "program"), str(folder / "inputs"), str(folder / "outputs"), "0"]
        count = counting(arguments, folder)[0]
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        wanted = np.concatenate([array.ravel() for array in session.run(None, feeds)])
        found = np.fromfile(folder / "outputs", np.float32)
    off = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    return count.instructions / 1e6, "" if off < 1e-4 else f"off by {off:.1g} of the largest number"
