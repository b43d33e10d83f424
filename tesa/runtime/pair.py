"""Holds a compiled library and the description beside it against each other."""

from pathlib import Path
from typing import Any

from tesa.errors import ModelError
from tesa.runtime.manifest import Manifest


def check_digest(library: Any, path: Path, manifest: Manifest) -> None:
    """ModelError where the model.json beside a library was written for another one, as when one of two was copied."""
    try:
        own = str(library.get_function("tesa_digest", query_imports=True)())
    except AttributeError:  # of an earlier version
        own = ""
    check_same(own, path, manifest)


def check_same(own: str, path: Path, manifest: Manifest) -> None:
    """ModelError where a library's own digest is not that of the description beside it."""
    if own != manifest.digest:
        description = path.with_suffix(".json")
        told = f"digest {manifest.digest or 'none'}, the library has {own or 'none'}"
        raise ModelError(
            f"{description}: describes another model than {path} ({told}). Put the .json beside it that was "
            "written with it, or compile the model again"
        )
