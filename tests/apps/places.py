"""Where the programs are, and the folder that they are built against."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

APPS = Path(__file__).parents[2] / "apps"


def runtime_folder(path: Path) -> None:
    """Lay out TVM's runtime as `tesa bundle` does: headers in include/, libraries in lib/."""
    from tvm_ffi import libinfo

    spec = importlib.util.find_spec("tvm")
    assert spec is not None
    assert spec.origin is not None
    (path / "lib").mkdir(parents=True)
    for library in (Path(spec.origin).parent / "lib" / "libtvm_runtime.so", Path(libinfo.find_libtvm_ffi())):
        shutil.copy(library, path / "lib")
    (path / "include").symlink_to(libinfo.find_include_path())
