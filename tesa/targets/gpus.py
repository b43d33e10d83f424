"""Kinds of GPUs that targets come from, each registered by a file: its architectures, and what each of them can do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from tesa.errors import UsageError
from tesa.schedules.gpus import Gpu
from tesa.schedules.types import Core
from tesa.targets.architecture import Target

LAUNCHING = Core("host", 4, 16)
"""The core of the CPU that launches kernels: any."""


@dataclass(frozen=True)
class GpuKind:
    """GPUs of one vendor.

    name: how users write it, and TVM's kind; title: in words; gpus: by the name of the architecture; plain: the one
    that the name alone means; option: of TVM's dictionary that names the architecture; aliases: other names of the
    kind, as in triples; known: further names of architectures, as of products, each with the one that it means; triple:
    LLVM's; ignored: further options of TVM's dictionary, which say what the architecture says already.
    """

    name: str
    title: str
    gpus: Mapping[str, Gpu]
    plain: str
    option: str
    triple: str
    aliases: tuple[str, ...] = ()
    known: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = (
        "tag", "keys", "host", "max_num_threads", "max_threads_per_block", "max_shared_memory_per_block",
        "thread_warp_size", "registers_per_block", "l2_cache_size_bytes", "libs",
    )  # fmt: skip

    def target(self, architecture: str = "", text: str = "") -> Target:
        """The target of an architecture, by default of the plain one. UsageError with the nearest for another name."""
        name = (architecture or self.plain).lower()
        name = self.known.get(name, name)
        if name not in self.gpus:
            names = [*self.gpus, *self.known]
            near = [] if name.isdigit() else get_close_matches(name, names, n=3, cutoff=0.4)
            near = near or _nearest_number(name, list(self.gpus))
            raise UsageError(
                f"target {text or f'{self.name}:{architecture}'}: no kernels are made for {self.title} of the "
                f"architecture {architecture!r}; nearest: {', '.join(near)}; known are {', '.join(self.gpus)}"
            )
        gpu = self.gpus[name]
        return Target(
            name=f"{self.name}:{name}", arch=self.name, cpu=name, core=LAUNCHING, triple=self.triple, kind="gpu",
            options=(("kind", self.name), (self.option, name)), runner="gpu", runtime=False, gpu=gpu,
        )  # fmt: skip

    def of_dictionary(self, data: Mapping[str, Any], text: str) -> Target:
        """The target of TVM's dictionary. UsageError for an option that no GPU of the kind has."""
        options = ("kind", self.option, "mtriple", *self.ignored)
        unknown = [key for key in data if key.replace("-", "_") not in options and key not in options]
        if unknown:
            raise UsageError(f"target {text}: unknown option {unknown[0]!r}; known are kind, {self.option}")
        value = data.get(self.option, "")
        if not isinstance(value, str):
            raise UsageError(f"target {text}: {self.option} is a name such as {self.plain}, not {value!r}")
        return self.target(value, text)


_KINDS: dict[str, GpuKind] = {}


def register(kind: GpuKind) -> GpuKind:
    """Make a kind of GPUs known, in place of one that has its name."""
    _KINDS[kind.name] = kind
    return kind


def gpu_kinds() -> tuple[GpuKind, ...]:
    """Every kind of GPUs that code can be made for."""
    return tuple(_KINDS.values())


def find_gpu_kind(name: str) -> GpuKind | None:
    """The kind that has this name or alias."""
    return next((one for one in gpu_kinds() if name.lower() in (one.name, *one.aliases)), None)


def _nearest_number(name: str, names: list[str]) -> list[str]:
    """The names whose number, in any digits, is the nearest one; all of them where the name has no number.

    >>> _nearest_number("70", ["sm_75", "sm_80", "sm_90"])
    ['sm_75']
    """
    digits = "".join(letter for letter in name if letter.isdigit())
    if not digits:
        return names
    far = {one: abs(int("".join(c for c in one if c.isdigit())) - int(digits)) for one in names}
    return [min(far, key=lambda one: far[one])]
