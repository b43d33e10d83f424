"""The rooms of tesa: no circle of files, and no import upwards, hidden ones counted.

`make lint` checks the order of the rooms with import-linter, by the contract in pyproject.toml. These tests see what it
cannot: a module that is imported by its name as a string, and circles of files inside a room.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = {"tesa": ROOT / "tesa", "tesa.schedules": ROOT / "schedules", "tesa.tuning_logs": ROOT / "tuning_logs"}
TOP = ("tesa", "tesa.__main__", "tesa._moved")
"""They name everything and import it when it is asked for. Nothing of tesa imports them."""

MODULE = re.compile(r"(tesa(?:\.\w+)+)(?::\w+)?")


@cache
def modules() -> dict[str, Path]:
    """The file of each module by its name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            inner = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *inner)).removesuffix(".__init__")] = path
    return found


def names(tree: ast.AST) -> Iterator[str]:
    """What a file imports, anywhere in it, and the strings in it that are a module's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (found := MODULE.fullmatch(node.value)):
            yield found[1]


def imports(files: Mapping[str, Path]) -> dict[str, set[str]]:
    """For each module the modules of tesa that it imports."""
    graph: dict[str, set[str]] = {name: set() for name in files if name not in TOP}
    for name in graph:
        for wanted in names(ast.parse(files[name].read_text(encoding="utf-8"))):
            whole = wanted
            while wanted not in files and "." in wanted:
                wanted = wanted.rpartition(".")[0]
            if wanted in files and wanted != name and (wanted != "tesa" or whole == "tesa"):
                graph[name].add(wanted)
    return graph


@cache
def tesa_imports() -> Mapping[str, set[str]]:
    """The imports of all of tesa."""
    return imports(modules())


def circles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """The groups of two or more modules that each reach all others of the group."""
    reach = {name: reachable(graph, name) for name in graph}
    groups = {frozenset(o for o in reach[n] if n in reach.get(o, ())) for n in graph if n in reach[n]}
    return [set(group) for group in groups]


def reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """All modules that a module imports, directly or not; itself too, if it is in a circle."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def rooms() -> list[str]:
    """The rooms in their order, low to high, as the contract in pyproject.toml lists them from the top."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    contract = re.search(r"^layers = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert contract is not None
    return re.findall(r'"(tesa[\w.]*)"', contract[1])[::-1]


def room(module: str, order: list[str]) -> str | None:
    return next((name for name in order if module == name or module.startswith(f"{name}.")), None)


def test_no_circle_of_files() -> None:
    found = circles(tesa_imports())
    assert not found, "\n".join(", ".join(sorted(group)) for group in found)


def test_no_import_goes_upwards() -> None:
    order = rooms()
    wrong = []
    for name, wanted in tesa_imports().items():
        mine = room(name, order)
        if mine is None:
            continue
        for other in wanted:
            theirs = room(other, order)
            if theirs is None or order.index(theirs) > order.index(mine):
                wrong.append(f"{name} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_every_module_is_in_a_room() -> None:
    order = rooms()
    assert [name for name in modules() if name not in TOP and room(name, order) is None] == []


def test_what_counts_as_an_import(tmp_path: Path) -> None:
    """Imports inside of functions and under TYPE_CHECKING, and names of modules as strings."""
    text = (
        'def f():\n    from tesa.low import x\n    load("tesa.high.part")\nif TYPE_CHECKING:\n    import tesa.middle\n'
    )
    (tmp_path / "a.py").write_text(text)
    files = {"tesa.a": tmp_path / "a.py"} | dict.fromkeys(
        ("tesa.low", "tesa.high.part", "tesa.middle"), tmp_path / "b.py"
    )
    (tmp_path / "b.py").write_text("from tesa.a import f\n")
    graph = imports(files)
    assert graph["tesa.a"] == {"tesa.low", "tesa.high.part", "tesa.middle"}
    assert circles(graph) == [set(files)]


if __name__ == "__main__":
    for group in circles(tesa_imports()):
        sys.stdout.write(f"{', '.join(sorted(group))}\n")
