"""Builds the code of a GPU's kernel into images, each module at most once and all of them in parallel."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby

from tesa.base.hostinfo import usable_cpus
from tesa.base.version import versions
from tesa.build.cache import Cache
from tesa.build.gpu import ptx
from tesa.build.gpu.amd import assemble_amd
from tesa.build.gpu.elf import code_object_entries, cubin_entries
from tesa.build.gpu.product import CUBIN, HSACO, PTX, GpuProduct, Image
from tesa.build.gpu.tir import Function, lowered
from tesa.build.objects import BuildError
from tesa.schedules.gpus import GpuCode, GpuText, GpuTir, Launch
from tesa.targets.target import Target


def build_images(
    symbol: str, code: GpuCode, target: Target, cache: Cache | None = None, jobs: int | None = None
) -> GpuProduct:
    """Build a kernel. The same code and target give the same bytes; what is in the cache is taken from there.

    jobs: assemblers at once, by default one for each CPU. Without an assembler of PTX the image is the text, which the
    driver compiles at the first load. Raises BuildError with the module's name and the assembler's words.
    """
    texts: list[GpuText] = []
    functions: dict[int, dict[str, Function]] = {}
    for number, module in enumerate(code.modules):
        if isinstance(module, GpuTir):
            text, functions[number] = lowered(module, target)
            texts.append(text)
        else:
            texts.append(module)
    launches, scratch = _launches(code, functions)
    with ThreadPoolExecutor(jobs or usable_cpus()) as pool:
        modules = tuple(pool.map(lambda text: images_of(text, target, cache), texts))
    return GpuProduct(symbol, modules, launches, code.constants, scratch, code.work, code.notes)


def _launches(
    code: GpuCode, functions: Mapping[int, Mapping[str, Function]]
) -> tuple[tuple[Launch, ...], tuple[int, ...]]:
    """The launches with their grids, several of a function of TVM that has several kernels, and all scratch memory."""
    scratch = list(code.scratch)
    found: list[Launch] = []
    stage = 0
    for _, together in groupby(sorted(code.launches, key=lambda one: one.stage), key=lambda one: one.stage):
        longest = 1
        for launch in together:
            made = list(_expanded(launch, functions, scratch)) if launch.module in functions else [launch]
            found += [replace(one, stage=stage + i) for i, one in enumerate(made)]
            longest = max(longest, len(made))
        stage += longest
    return tuple(sorted(found, key=lambda one: one.stage)), tuple(scratch)


def _expanded(launch: Launch, functions: Mapping[int, Mapping[str, Function]], scratch: list[int]) -> Iterator[Launch]:
    function = functions[launch.module][launch.entry]
    first = len(scratch)
    scratch += function.memories
    for kernel in function.kernels:
        given = tuple(launch.arguments[i] if i >= 0 else f"scratch{first - i - 1}" for i in kernel.arguments)
        yield replace(
            launch, entry=kernel.entry, grid=kernel.grid, block=kernel.block, shared=kernel.shared, arguments=given
        )


def images_of(text: GpuText, target: Target, cache: Cache | None = None) -> tuple[Image, ...]:
    """The images of one module, the best one first. Raises BuildError as build_images."""
    assert target.gpu is not None
    name = target.gpu.name
    if text.kind == "amd":
        made = _cached(text, target, cache, "lld", assemble_amd)
        return (Image(HSACO, name, made, code_object_entries(made, text.text)),)
    own = ptx.alone(text.text)
    source = Image(PTX, own or name, text.text.encode() + b"\0")
    assembler = ptx.assembler()
    if not assembler:
        return (source,)
    cubin = _cached(text, target, cache, assembler, ptx.assemble_ptx)
    image = Image(CUBIN, name, cubin, cubin_entries(cubin))
    return (image,) if own else (image, source)


def _cached(
    text: GpuText, target: Target, cache: Cache | None, by: str, assemble: Callable[[str, str], bytes]
) -> bytes:
    parts = [*versions().values(), json.dumps(target.tvm, sort_keys=True), by, text.kind, text.text]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    content = None if cache is None else cache.get(key)
    if content is None:
        try:
            content = assemble(text.text, target.cpu)
        except ptx.AssemblerError as error:
            raise BuildError(f"{text.name}: {error}") from error
        if cache is not None:
            cache.put(key, content)
    return content
