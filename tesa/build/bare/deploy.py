"""Writes a compiled model that needs no runtime: its file, its C header, and its description."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tesa.base.files import atomic_path, write_json
from tesa.build.bare.arena import ALIGNMENT
from tesa.build.bare.build import Kernel, Parts, build, c_source, main_object, network_calls
from tesa.build.bare.formats import Format
from tesa.build.bare.header import header
from tesa.build.bare.library import library_objects
from tesa.build.bare.link import link
from tesa.build.bare.network import Function
from tesa.build.bare.ports import Api, Limits, Size, arguments, model_name, ports
from tesa.targets.target import Target

Describe = Callable[[Mapping[str, Any]], Mapping[str, Any]]

Named = tuple[str, Limits]
"""The name of an input or output in the model, and the bounds of its elements where it is an index."""


@dataclass(frozen=True)
class Sides:
    """The inputs and outputs of one function of a module, in order."""

    function: str
    inputs: tuple[Named, ...]
    outputs: tuple[Named, ...]


def write_bare(
    mod: Any, sides: Sequence[Sides], kernels: Sequence[Kernel], describe: Describe, digest: str, form: Format,
    path: Path, target: Target, threads: int, version: str,
) -> None:  # fmt: skip
    """Write a scheduled module as path, with NAME.h and NAME.json beside it: all of them whole, or none.

    kernels: those that the module calls by symbol. describe: the content of NAME.json for what is said of the library;
    digest: of what is in it. UnsupportedError for what only TVM's virtual machine can do.
    """
    calls = network_calls(mod, [side.function for side in sides], target)
    known = {function.name: function for function in calls.functions}
    sizes = tuple(_size(side, known[side.function], number) for number, side in enumerate(sides))
    name = model_name(path)
    model = Api(name, sizes, 0, target.name, version, digest, threads)
    parts = build(calls, kernels, model, target, threads, text=form.name == "c")
    library = {
        "format": form.name, "name": name, "arena": parts.api.arena, "alignment": ALIGNMENT,
        "functions": [f"{name}_run{size.suffix}" for size in sizes],
    }  # fmt: skip
    with atomic_path(path) as made, atomic_path(path.with_suffix(".h")) as aside:
        if form.name == "c":
            made.write_text(c_source(parts, target, path.with_suffix(".h").name))
        else:
            _link(parts, form, target, made)
        aside.write_text(header(parts.api))
        write_json(path.with_suffix(".json"), describe(library))


def _link(parts: Parts, form: Format, target: Target, path: Path) -> None:
    objects = [main_object(parts, target), *(unit.content for unit in parts.units)]
    if form.name == "wasm":  # nothing else is there that it could be linked with
        objects += library_objects(target)
    kind = "wasm-o" if target.arch == "wasm32" and form.name == "o" else form.name
    link(objects, parts.api, kind, target, path)


def _size(side: Sides, function: Function, number: int) -> Size:
    names = arguments()
    made = [
        ports([name for name, _ in group], tensors, [limits for _, limits in group], names)
        for group, tensors in ((side.inputs, function.inputs), (side.outputs, function.outputs))
    ]
    return Size(side.function, f"_{number}" if number else "", *made)
