"""The forms in which a compiled model can be written, and which of them a target has."""

from dataclasses import dataclass
from pathlib import Path

from tesa.errors import UsageError
from tesa.targets.target import Target

VM = "vm"


@dataclass(frozen=True)
class Format:
    """A form of a compiled model. suffix: of its file; says: what it is, for help and errors."""

    name: str
    suffix: str
    says: str


FORMATS = {
    one.name: one
    for one in (
        Format(VM, ".so", "a library for TVM's virtual machine, which Python and C++ load with TVM's runtime"),
        Format("o", ".o", "one object file and a C header, to link into a program; no runtime"),
        Format("so", ".so", "a shared library and a C header; no runtime"),
        Format("c", ".c", "one file of C with its header, which gcc or clang compiles for the target; no runtime"),
        Format("wasm", ".wasm", "a WebAssembly module without imports; no runtime"),
        Format("gpu", ".so", "a shared library for a GPU, which needs its driver alone"),
    )
}
"""By name."""

_OF = {"wasm32": ("wasm", "o"), "cuda": ("gpu",), "rocm": ("gpu",)}
_ELSE = (VM, "so", "o", "c")


def formats_of(target: Target) -> tuple[str, ...]:
    """The formats that a target has, its default first."""
    return _OF.get(target.arch, _ELSE)


def chosen_format(name: str | None, path: Path, target: Target) -> Format:
    """The format of that name; of None the one that the suffix of the output tells, else the target's default.

    Raises UsageError for a format that nobody knows, or that the target does not have.

    >>> from tesa.targets.target import parse_target
    >>> chosen_format(None, Path("model.o"), parse_target("x86:haswell")).name
    'o'
    """
    known = formats_of(target)
    if name is None:
        told = [one for one in known if FORMATS[one].suffix == path.suffix]
        return FORMATS[told[0] if told else known[0]]
    if name not in FORMATS:
        raise UsageError(f"unknown format {name!r}; expected one of {', '.join(FORMATS)}")
    if name not in known:
        raise UsageError(f"target {target.name} has no format {name!r}; it has {', '.join(known)}")
    return FORMATS[name]
