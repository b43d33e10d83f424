"""The arrays of a user that go into a compiled model."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from tesa.base.archive import Arrays
from tesa.base.npz import read_npz, write_npz
from tesa.errors import UsageError

if TYPE_CHECKING:
    from tesa.runtime import Model

__all__ = ["Arrays", "check_names", "read_inputs", "read_npz", "write_npz"]


def read_inputs(path: str | Path | None, model: Model) -> Arrays | None:
    """The arrays of a file, which must be the inputs of a compiled model; None where no file is named."""
    if path is None:
        return None
    arrays = read_npz(path)
    check_names(arrays, [info.name for info in model.inputs], path)
    return arrays


def check_names(arrays: Collection[str], wanted: Collection[str], path: str | Path) -> None:
    """Raise UsageError unless the arrays of the file at path are exactly the wanted inputs of a model."""
    missing = [name for name in wanted if name not in arrays]
    surplus = [name for name in arrays if name not in wanted]
    if not missing and not surplus:
        return
    wrong = []
    if missing:
        wrong.append(f"lacks {', '.join(map(repr, missing))}")
    if surplus:
        close = {name: get_close_matches(name, missing, n=1) for name in surplus}
        names = ", ".join(repr(name) + (f" (meant {near[0]!r}?)" if near else "") for name, near in close.items())
        wrong.append(f"has {names}, which the model does not take")
    raise UsageError(f"{path} {' and '.join(wrong)}; the model's inputs are {', '.join(map(repr, wanted))}")
