"""Memory that is free, of the machine and of a container."""

from __future__ import annotations

from pathlib import Path

from tesa.base.hostinfo import crowded, free_memory, usable_cpus

NOWHERE = Path("/nowhere")


def group(folder: Path, limit: str, used: int, idle: int) -> Path:
    for name, text in (("max", limit), ("current", str(used)), ("stat", f"anon 5\ninactive_file {idle}\n")):
        (folder / f"memory.{name}").write_text(f"{text}\n")
    return folder


def test_the_machine(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  8000 kB\nMemFree:   100 kB\nMemAvailable:   3000 kB\n")
    assert free_memory(tmp_path / "meminfo", NOWHERE) == 3000 * 1024
    (tmp_path / "old").write_text("MemTotal:  8000 kB\n")
    assert free_memory(tmp_path / "old", NOWHERE) is None


def test_a_container_with_less(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable:   3000 kB\n")
    assert free_memory(tmp_path / "meminfo", group(tmp_path, "1000000", 900_000, 50_000)) == 150_000
    assert free_memory(NOWHERE, group(tmp_path, "100", 900, 50)) == 0
    assert free_memory(tmp_path / "meminfo", group(tmp_path, "max", 900, 50)) == 3000 * 1024


def test_here() -> None:
    found = free_memory()
    assert found is None or found > 0


def test_more_threads_than_cpus_are_told() -> None:
    cpus = usable_cpus()
    assert crowded(cpus) == ""
    assert crowded(cpus + 1).startswith(f"{cpus + 1} threads are measured on {cpus} CPU")
