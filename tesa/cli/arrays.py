"""Reads and writes the arrays that go into a model and come out of it."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tesa.base.files import atomic_path
from tesa.errors import UsageError

if TYPE_CHECKING:
    from tesa.runtime import Model

Arrays = dict[str, NDArray[Any]]


def read_npz(path: str | Path) -> Arrays:
    """All arrays of an .npz file by name. Raises UsageError if it is missing, damaged, or no .npz file.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_npz(Path(folder) / "in.npz", {"x": np.zeros((1, 4), np.float32)})
    ...     read_npz(Path(folder) / "in.npz")["x"].shape
    (1, 4)
    """
    try:
        loaded = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise UsageError(f"cannot read {path}: there is no such file") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is not an .npz file; write one with numpy.savez(path, NAME=array)") from error
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        raise UsageError(f"{path} holds one array without a name; write it with numpy.savez(path, NAME=array)")
    with loaded:
        return {name: _member(loaded, name, path) for name in loaded.files}


def read_inputs(path: str | Path | None, model: Model) -> Arrays | None:
    """The arrays of a file, which must be the inputs of a compiled model; None where no file is named."""
    if path is None:
        return None
    arrays = read_npz(path)
    check_names(arrays, [info.name for info in model.inputs], path)
    return arrays


def write_npz(path: str | Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write the arrays to path by their names, whole or not at all. Errors are those of tesa.base.files.atomic_path."""
    # numpy.savez takes the names as keywords, and fails for an array called "file".
    with atomic_path(path) as aside, zipfile.ZipFile(aside, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)


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


def _member(loaded: Any, name: str, path: str | Path) -> NDArray[Any]:
    try:
        array = loaded[name]
    except ValueError as error:  # an array of Python objects
        raise UsageError(f"{path}: array {name!r} cannot be read: {error}; store plain numbers") from error
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: array {name!r} is damaged: {error}; write the file again") from error
    if not isinstance(array, np.ndarray):
        raise UsageError(f"{path}: {name!r} is not an array; write the file with numpy.savez(path, NAME=array)")
    return array
