"""Asks a compiled library whether this machine's CPU has the instructions in it, before one of them runs."""

import platform
from pathlib import Path
from typing import Any

from tesa.errors import ModelError
from tesa.targets.architecture import find


def missing_features(library: Any) -> tuple[str, ...]:
    """The instruction sets that a library needs and this CPU lacks, by LLVM's names; none where it does not tell."""
    try:
        ask = library.get_function("tesa_missing", query_imports=True)
    except AttributeError:  # of an earlier version, or for an architecture whose CPUs cannot be asked
        return ()
    return tuple(name for name in str(ask()).split(", ") if name)


def _advice(target: str) -> str:
    """Names of this machine and of an older CPU, as ends of a sentence. target: its name as the user may write it."""
    one = find(target.partition(":")[0]) or find(platform.machine())
    if one is None:
        return ""
    older = f", or for an older CPU that both cover, such as {one.name}:{one.covered}" if one.covered else ""
    return f" (--target {one.name}, here){older}"


def check_cpu(library: Any, path: Path, target: str) -> None:
    """ModelError, instead of an illegal instruction in the middle of a call, where the CPU lacks what is needed."""
    missing = missing_features(library)
    if missing:
        raise ModelError(
            f"{path}: was compiled for {target}, and this machine's CPU cannot run it: it lacks {', '.join(missing)}, "
            f"or its system hides them. Compile the model for this machine{_advice(target)}"
        )
