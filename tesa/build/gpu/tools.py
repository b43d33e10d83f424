"""The tools that make code for GPUs, and where they are: of pip's packages, of a toolkit, or on the path."""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tesa.base.extras import install

EXTRA = install("cuda")
"""The command that installs what compiles for NVIDIA's GPUs."""


def _folders() -> Iterator[Path]:
    """Folders with bin, lib and include in them: $CUDA_HOME, then pip's packages, then a toolkit of the system."""
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(variable):
            yield Path(os.environ[variable])
    spec = importlib.util.find_spec("nvidia")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        yield from sorted(Path(place).glob("cu[0-9]*"), reverse=True)
        yield from sorted(Path(place).glob("*"))
    yield Path("/usr/local/cuda")


def library(name: str) -> Path | None:
    """A library of NVIDIA's, such as "nvJitLink", None where there is none."""
    for folder in _folders():
        for inner in ("lib", "lib64"):
            found = sorted((folder / inner).glob(f"lib{name}.so*"))
            if found:
                return found[-1]
    return None


def program(name: str) -> Path | None:
    """A program of NVIDIA's, such as "ptxas", None where there is none."""
    for folder in _folders():
        if (folder / "bin" / name).is_file():
            return folder / "bin" / name
    found = shutil.which(name)
    return Path(found) if found else None


def includes() -> list[Path]:
    """Folders of the headers of CUDA C."""
    found = [folder / "include" for folder in _folders() if (folder / "include" / "cuda_fp16.h").is_file()]
    return [path for one in found for path in (one, one / "cccl") if path.is_dir()]


def llvm_program(name: str) -> str | None:
    """A program of LLVM's, which Debian calls by its version too: the newest from 15 on, else the one without."""
    versions = (f"{name}-{version}" for version in range(30, 14, -1))
    return next((found for one in (*versions, name) if (found := shutil.which(one))), None)
