"""Reads and writes .npz files: arrays by name."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.base.archive import Arrays, read_arrays
from tesa.base.files import atomic_path
from tesa.base.told import Untruthful
from tesa.errors import UsageError


def read_npz(path: str | Path) -> Arrays:
    """All arrays of an .npz file by name. Raises UsageError if it is missing, damaged, or no .npz file.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_npz(Path(folder) / "in.npz", {"x": np.zeros((1, 4), np.float32)})
    ...     read_npz(Path(folder) / "in.npz")["x"].shape
    (1, 4)
    """
    try:
        return read_arrays(path)
    except FileNotFoundError as error:
        raise UsageError(f"cannot read {path}: there is no such file") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except Untruthful as error:
        raise UsageError(f"{path}: {error}; write one with numpy.savez(path, NAME=array)") from error


def write_npz(path: str | Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write the arrays to path by their names, whole or not at all. Errors are those of tesa.base.files.atomic_path."""
    # numpy.savez takes the names as keywords, and fails for an array called "file".
    with atomic_path(path) as aside, zipfile.ZipFile(aside, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)
