"""TVM's runtime for a machine: from the packages that are installed here, or from wheels for another machine."""

import platform
import zipfile
from importlib.metadata import files, version
from importlib.util import find_spec
from pathlib import Path

from tesa.base.hostinfo import architecture
from tesa.errors import UsageError

PACKAGES = ("apache-tvm", "apache-tvm-ffi")
LIBRARIES = {"libtvm_runtime.so": "tvm", "libtvm_ffi.so": "tvm_ffi"}
"""What a program ships, and the module of the package that each is in."""

_TAGS = {"x86_64": "manylinux_2_28_x86_64", "aarch64": "manylinux_2_28_aarch64"}


def libraries(names: tuple[str, ...], arch: str, wheels: Path | None) -> dict[str, bytes]:
    """The content of runtime libraries for an architecture, by name.

    wheels: a folder with wheels of both packages; without it, the packages that are installed, which are for this
    machine. Raises UsageError, with the command that gets the wheels, where they are for another one.
    """
    if wheels is not None:
        return {name: _in_wheel(name, arch, wheels) for name in names}
    here = architecture(platform.machine())
    if arch != here:
        raise UsageError(
            f"the library is made for {arch}, and the packages that are installed here are for {here}; get those for "
            f"{arch} with `{download(arch)}`, and bundle with --wheels wheels"
        )
    return {name: _installed(LIBRARIES[name], name).read_bytes() for name in names}


def download(arch: str) -> str:
    """The command that fetches the wheels of the runtime for an architecture."""
    wanted = " ".join(f"{name}=={version(name)}" for name in PACKAGES)
    return f"pip download --no-deps --only-binary=:all: --platform {_TAGS.get(arch, arch)} -d wheels {wanted}"


def headers() -> Path:
    """The folder of the C and C++ headers of tvm_ffi and DLPack."""
    return _module("tvm_ffi") / "include"


def licences() -> dict[str, Path]:
    """The licences of the packages that the runtime is from, and of what is in them, by names for a bundle.

    >>> sorted(licences())[:2]
    ['apache-tvm-LICENSE', 'apache-tvm-LICENSE.builtin_fp16.txt']
    """
    return {name: path for package in PACKAGES for name, path in licences_of(package).items()}


def licences_of(package: str) -> dict[str, Path]:
    """The licences of an installed package."""
    found: dict[str, Path] = {}
    for file in files(package) or ():
        if file.name.startswith(("LICENSE", "NOTICE")):
            inside = f"{file.parts[-2]}-" if "3rdparty" in file.parts else ""
            found.setdefault(f"{package}-{inside}{file.name}", Path(str(file.locate())))
    return found


def _module(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise UsageError(f"TVM's runtime is not installed: pip install {PACKAGES[0]}")
    return Path(spec.origin).parent


def _installed(module: str, name: str) -> Path:
    path = _module(module) / "lib" / name
    if not path.is_file():
        raise UsageError(f"{path}: not there; install the package again: pip install --force-reinstall {PACKAGES[0]}")
    return path


def _in_wheel(name: str, arch: str, folder: Path) -> bytes:
    package = dict(zip(LIBRARIES, PACKAGES, strict=True))[name]
    pattern = f"{package.replace('-', '_')}-{version(package)}-*{arch}.whl"
    for wheel in sorted(folder.glob(pattern)):
        try:
            with zipfile.ZipFile(wheel) as content:
                return content.read(f"{LIBRARIES[name]}/lib/{name}")
        except (zipfile.BadZipFile, KeyError) as error:
            raise UsageError(
                f"{wheel}: is damaged, or no wheel of {package}; get it again: `{download(arch)}`"
            ) from error
    raise UsageError(f"{folder}: has no wheel {pattern}; get it with `{download(arch)}`")
