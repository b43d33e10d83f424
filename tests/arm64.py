"""A Python for 64-bit ARM with TVM's wheels, run by qemu-aarch64: a device for the tests where there is none.

Nothing is installed on this system: Debian's or Ubuntu's packages are unpacked in a folder of the user's cache, wheels
are laid beside them. `python -m tests.arm64` prepares it ahead and prints the command; it takes a minute and 500 MB.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest

from tests.support import require_system

_PACKAGES = ("python3", "libstdc++6", "libgomp1")
_WHEELS = (
    "apache-tvm",
    "apache-tvm-ffi",
    "numpy",
    "ml-dtypes",
    "typing-extensions",
    "tornado",
    "cloudpickle",
    "psutil",
)
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
_LOCK = Path(__file__).parents[1] / "requirements" / "lock.txt"
_PORTS = "http://ports.ubuntu.com/ubuntu-ports"
_LIMIT_S = 600.0

_LAUNCHER = """#!/bin/sh
# Python for 64-bit ARM. A child that it starts is run the same way: see sitecustomize.py.
export PYTHONHOME={root}/usr PYTHONPATH={site}:$ARM64_PATH ARM64_PYTHON={launcher}
exec {qemu} -L {root} -cpu ${{ARM64_CPU:-max}} {python} "$@"
"""

_SITE = """import os, sys
sys.executable = os.environ.get("ARM64_PYTHON", sys.executable)
"""


def arm64_python() -> Path:
    """The command that runs it, made at first. Skips the test, with the reason, where it cannot be had."""
    require_system("qemu-aarch64", "qemu-user")
    try:
        return prepare(folder())
    except (OSError, subprocess.SubprocessError, LookupError) as error:
        said = getattr(error, "stderr", "") or str(error)
        pytest.skip(f"no Python for 64-bit ARM can be made here: {said.strip().splitlines()[-1] if said else error}")


def folder() -> Path:
    """The folder of the user's cache that it lies in; a test's own cache would not outlive the test."""
    return Path(os.environ.get("TESA_TEST_ARM64") or platformdirs.user_cache_path("tesa-tests") / "arm64")


def prepare(home: Path) -> Path:
    """Make it in a folder unless it is there, and give the command."""
    launcher = home / "python"
    if launcher.exists():
        return launcher
    aside = home.with_name(f"{home.name}-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        version = _unpack(aside)
        _wheels(aside / "site", version)
        (aside / "site" / "sitecustomize.py").write_text(_SITE)
        shutil.rmtree(aside / "apt")
        text = _LAUNCHER.format(
            root=home / "root", site=home / "site", launcher=launcher, qemu=shutil.which("qemu-aarch64"),
            python=home / "root" / "usr" / "bin" / f"python{version}",
        )  # fmt: skip
        (aside / "python").write_text(text)
        (aside / "python").chmod(0o755)
        try:
            aside.rename(home)
        except OSError:
            if not launcher.exists():  # else another process was first
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return launcher


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=_LIMIT_S, stdin=subprocess.DEVNULL)
    return done.stdout


def _unpack(home: Path) -> str:
    """Unpack Python and what it needs under root, and give its version. apt has a state of its own, so that no root is
    needed and this system's architectures stay as they are."""
    apt, root = home / "apt", home / "root"
    for name in ("state/lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(_source())
    options = {
        "Dir::State": apt / "state", "Dir::State::status": apt / "status", "Dir::Cache": apt / "cache",
        "Dir::Etc::sourcelist": apt / "sources.list", "Dir::Etc::sourceparts": "-", "Dir::Etc::main": "-",
        "Dir::Etc::parts": "-", "APT::Architecture": "arm64", "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root", "Debug::NoLocking": "true",
    }  # fmt: skip
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    _run("apt-get", *words, "update", "-q", "--error-on=any")
    _run("apt-get", *words, "install", "-y", "-q", "--download-only", "--no-install-recommends", *_PACKAGES)
    for package in sorted((apt / "cache" / "archives").glob("*.deb")):
        _run("dpkg", "-x", str(package), str(root))
    loader = root / "lib" / "ld-linux-aarch64.so.1"
    if not loader.exists():
        loader.parent.mkdir(exist_ok=True)
        found = next(root.rglob(f"*/aarch64-linux-gnu/{loader.name}"))
        loader.symlink_to(os.path.relpath(found, loader.parent))
    return next(path.name for path in (root / "usr" / "bin").glob("python3.*[0-9]")).removeprefix("python")


def _source() -> str:
    """The line of this system's archive, for arm64. LookupError where it is neither Debian nor Ubuntu."""
    release = Path("/etc/os-release")
    pairs = (line.partition("=") for line in release.read_text().splitlines()) if release.exists() else ()
    facts = {name: value.strip('"') for name, _, value in pairs}
    system, suite = facts.get("ID", ""), facts.get("VERSION_CODENAME", "")
    if system not in ("debian", "ubuntu"):
        raise LookupError("this system is neither Debian nor Ubuntu")
    places = {"debian": "http://deb.debian.org/debian", "ubuntu": _PORTS}
    told = "apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"
    if system == "debian":  # a mirror near by
        sites = [site for site in _run(*told).split() if site.rstrip("/").endswith("/debian")]
        places[system] = sites[0] if sites else places[system]
    keyring = f"/usr/share/keyrings/{system}-archive-keyring.gpg"
    parts = "main universe" if system == "ubuntu" else "main"
    return f"deb [arch=arm64 signed-by={keyring}] {places[system]} {suite} {parts}\n"


def _wheels(site: Path, version: str) -> None:
    """Lay out the wheels of the lock, those for 64-bit ARM where they differ, for that version of Python."""
    known = dict(line.split(" ")[0].split("==") for line in _lines(version))
    words = [word for name in _PLATFORMS for word in ("--platform", name)]
    names = [f"{name}=={known[name]}" for name in _WHEELS]
    _run(
        sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", *words, "--python-version", version, "--implementation", "cp", "--target", str(site),
        *names,
    )  # fmt: skip


def _lines(version: str) -> list[str]:
    """The lines of the lock that hold for a version of Python."""
    from packaging.markers import Marker

    found = []
    for line in _LOCK.read_text().splitlines():
        pin, _, marker = line.partition(" ; ")
        held = not marker or Marker(marker).evaluate({"python_version": version})
        if "==" in pin and not pin.startswith("#") and held:
            found.append(pin)
    return found


if __name__ == "__main__":
    print(prepare(folder()))
