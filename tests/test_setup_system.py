"""scripts/setup_system.sh: quiet where all is there, installs what is missing with apt as root, names it elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "setup_system.sh"
TOOLS = (
    "g++", "make", "python3", "cmake", "zsh", "valgrind", "openssl", "aarch64-linux-gnu-g++", "qemu-aarch64",
    "wasm-ld-22", "llvm-mca-22", "node", "chromium", "oclgrind", "test",
)  # fmt: skip


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with all that the script looks for, each of which succeeds; an apt-get that writes down its words."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        _program(folder, name, "exit 0")
    (folder / "bash").symlink_to(shutil.which("bash") or "/bin/bash")
    (folder / "sed").symlink_to(shutil.which("sed") or "/bin/sed")
    _program(folder, "id", "echo 0")
    _program(folder, "apt-get", f'echo "$@" >> {tmp_path}/apt')
    _program(folder, "apt-cache", '[ "$2" = lld-21 ] || [ "$2" = lld-19 ]')
    return folder


def _program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!{folder}/bash\n{text}\n")
    path.chmod(0o755)


def _run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("CXX", "PYTHON")}
    return subprocess.run(
        [str(folder / "bash"), str(SCRIPT), *words],
        env={**environment, "PATH": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def _without(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def test_nothing_to_do(tmp_path: Path, programs: Path) -> None:
    if not Path("/usr/aarch64-linux-gnu/include/stdio.h").exists():
        pytest.skip("this machine has no headers for aarch64")
    if not Path("/etc/OpenCL/vendors/pocl.icd").exists():
        pytest.skip("this machine has no OpenCL on the CPU")
    done = _run(programs)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "apt").exists()


def test_apt_brings_what_is_missing_in_the_newest_version(tmp_path: Path, programs: Path) -> None:
    _without(programs, "wasm-ld-22", "node", "g++")
    assert _run(programs).returncode == 0
    update, install = (tmp_path / "apt").read_text().splitlines()
    assert update == "update -qq"
    assert {"lld-21", "nodejs", "g++"} <= set(install.split())
    assert install.split().count("g++") == 1
    assert "llvm" not in install


@pytest.mark.parametrize(("version", "missing"), [("14.0.6", True), ("20.1.2", False)])
def test_a_tool_without_a_number_in_its_name_tells_its_version(
    tmp_path: Path, programs: Path, version: str, missing: bool
) -> None:
    _without(programs, "wasm-ld-22", "cmake")  # cmake, so that there is always something to install
    _program(programs, "wasm-ld", f"echo 'Debian LLD {version} (compatible with GNU linkers)'")
    assert _run(programs).returncode == 0
    assert ("lld-21" in (tmp_path / "apt").read_text()) == missing


def test_only_what_is_needed(tmp_path: Path, programs: Path) -> None:
    _without(programs, "wasm-ld-22", "node", "chromium", "make")
    assert _run(programs, "needed").returncode == 0
    assert (tmp_path / "apt").read_text().splitlines()[1].split()[4:] == ["make"]


def test_another_compiler_is_enough_for_tesa_itself(tmp_path: Path, programs: Path) -> None:
    _without(programs, "g++")
    _program(programs, "clang", "exit 0")
    assert _run(programs, "needed").returncode == 0
    assert not (tmp_path / "apt").exists()


@pytest.mark.parametrize("lacking", ["apt-get", "root"])
def test_elsewhere_it_names_what_is_missing(tmp_path: Path, programs: Path, lacking: str) -> None:
    _without(programs, "valgrind", *(["apt-get"] if lacking == "apt-get" else []))
    if lacking == "root":
        _program(programs, "id", "echo 1000")
    done = _run(programs)
    assert done.returncode == 1
    assert done.stderr.startswith("Missing, by Debian's names: valgrind")
    assert not (tmp_path / "apt").exists()
