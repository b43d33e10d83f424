"""Signs that a machine is played by another one."""

from __future__ import annotations

import pytest

from tesa.base.hostinfo import emulator

TCG = "QEMU TCG CPU version 2.5+"
ROSETTA = {"vendor_id": "VirtualApple", "model name": "VirtualApple"}
AMD = {"vendor_id": "AuthenticAMD", "model name": "AMD EPYC 9B14"}
PI = {"CPU implementer": "0x41", "CPU part": "0xd0b", "Features": "fp asimd"}


@pytest.mark.parametrize(
    ("machine", "cpu", "kernel", "bus"),
    [
        ("x86_64", AMD, "x86_64", "cpu:type:x86,ven0002fam0019:feature:,0000"),
        ("x86_64", AMD, "", ""),
        ("aarch64", PI, "aarch64", "cpu:type:aarch64:feature:,0000"),
        ("arm64", PI, "aarch64", ""),
        ("armv7l", PI, "aarch64", ""),
        ("i686", AMD, "x86_64", "cpu:type:x86,ven0002"),
        ("aarch64", {}, "", ""),
        ("x86_64", {"model name": "QEMU Virtual CPU version 2.5+"}, "x86_64", ""),
    ],
)
def test_a_real_machine(machine: str, cpu: dict[str, str], kernel: str, bus: str) -> None:
    """A virtual machine's CPU may call itself after QEMU, and be a real one all the same."""
    assert emulator(machine, cpu, kernel, bus) == ""


@pytest.mark.parametrize(
    ("machine", "cpu", "kernel", "bus", "said"),
    [
        ("aarch64", AMD, "", "", "aarch64, played by AMD EPYC 9B14"),
        ("aarch64", PI, "x86_64", "", "aarch64, played by x86_64"),
        ("aarch64", PI, "", "cpu:type:x86,ven0000fam0006:feature:,0000", "aarch64, played by x86"),
        ("x86_64", PI, "", "", "x86_64, played by another machine"),
        ("x86_64", AMD, "aarch64", "", "x86_64, played by AMD EPYC 9B14"),
        ("x86_64", ROSETTA, "", "", "x86_64, played by VirtualApple"),
        ("x86_64", {"model name": TCG}, "x86_64", "", f"x86_64, played by {TCG}"),
        ("riscv64", {}, "x86_64", "", "riscv64, played by x86_64"),
    ],
)  # fmt: skip
def test_a_machine_that_is_played(machine: str, cpu: dict[str, str], kernel: str, bus: str, said: str) -> None:
    assert emulator(machine, cpu, kernel, bus) == said
