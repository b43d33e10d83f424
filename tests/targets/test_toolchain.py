"""The C compiler of a target: which one is taken, and what is said where there is none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tesa.errors import UsageError
from tesa.targets import toolchain, zig
from tesa.targets.target import parse_target
from tesa.targets.toolchain import Toolchain

ARM = parse_target("aarch64:cortex-a76").toolchain
X86 = parse_target("x86:haswell").toolchain


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for compilers, the only one that there is, on an x86 machine without zig."""
    monkeypatch.setattr("tesa.targets.toolchain.platform.machine", lambda: "x86_64")
    monkeypatch.setattr("tesa.targets.zig.find_spec", lambda _: None)
    monkeypatch.setenv("TESA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CXX", "CC"):
        monkeypatch.delenv(name, raising=False)
    toolchain._asked.cache_clear()
    return tmp_path


def test_a_tool_that_is_not_done_in_time_is_told_of() -> None:
    with pytest.raises(UsageError, match=r"cannot write net\.so: sleep was not done after 0\.1 s"):
        toolchain.ran(["sleep", "20"], Path("out/net.so"), 0.1)


def command(folder: Path, name: str, machine: str = "") -> str:
    """A compiler that tells what it makes code for, or does not."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n[ -z '{machine}' ] && exit 1\necho {machine}-linux-gnu\n")
    path.chmod(0o755)
    return str(path)


def test_a_named_compiler_counts_where_it_makes_code_for_the_target(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native, cross = command(tools, "g++", "x86_64"), command(tools, "aarch64-linux-gnu-g++", "aarch64")
    clang, other = command(tools, "my-clang", "arm64"), command(tools, "my-gcc", "x86_64")
    assert (X86.found(), ARM.found()) == (native, cross)
    for named, wanted in {
        clang: (native, clang), other: (other, cross), command(tools, "mute"): (command(tools, "mute"), cross)
    }.items():  # fmt: skip
        monkeypatch.setenv("CXX", named)
        assert (X86.found(), ARM.found()) == wanted, named
    monkeypatch.setenv("CXX", "nonesuch")
    assert (X86.found(), ARM.found()) == (None, cross)
    with pytest.raises(UsageError, match=r"no command 'nonesuch', which \$CXX or \$CC names"):
        X86.compiler()


def test_on_a_board_x86_is_the_foreign_one(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesa.targets.toolchain.platform.machine", lambda: "aarch64")
    native = command(tools, "g++", "aarch64")
    assert (ARM.found(), X86.found()) == (native, None)
    with pytest.raises(UsageError, match=r"install x86_64-linux-gnu-g\+\+ \(Debian and Ubuntu: apt-get install g"):
        X86.compiler()
    assert X86.install() == "apt-get install g++-x86-64-linux-gnu (or pip install ziglang)"
    monkeypatch.setenv("CXX", native)
    assert (ARM.found(), X86.found()) == (native, None)


def test_nothing_for_the_target(tools: Path) -> None:
    assert ARM.found() is None
    with pytest.raises(UsageError, match=r"g\+\+-aarch64-linux-gnu\), or zig from PyPI \(pip install ziglang\)"):
        ARM.compiler()
    with pytest.raises(UsageError, match="no command 'mine' to link code for the devices"):
        Toolchain(command="mine").compiler()


def test_zig_is_the_last_resort(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script in the cache calls it, as one word, with a cache of its own."""
    fake = tools / "zig"
    fake.write_text('#!/bin/sh\necho "$ZIG_GLOBAL_CACHE_DIR" "$@"\n')
    fake.chmod(0o755)
    found = ARM.found()
    assert found is not None
    assert Path(found).parent == tools / "cache" / "zig"
    assert ARM.compiler() == found
    assert ARM.machine() == "aarch64"
    env = {name: value for name, value in os.environ.items() if name != "ZIG_GLOBAL_CACHE_DIR"}
    words = ["/bin/sh", found, "-march=armv8-a", "-shared", "a b.o"]
    said = subprocess.run(words, capture_output=True, text=True, check=True, env=env).stdout.split()
    assert said == [str(tools / "cache" / "zig" / "cache"), *"cc -target aarch64-linux-gnu.2.28 -shared a b.o".split()]
    cross = command(tools, "aarch64-linux-gnu-gcc", "aarch64")
    assert ARM.found() == cross
    monkeypatch.delenv("PATH")
    assert zig.zig() is None
