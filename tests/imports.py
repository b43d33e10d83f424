"""The imports of tesa's files: all of them, those inside of functions and under TYPE_CHECKING too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = {"tesa": ROOT / "tesa", "tesa.schedules": ROOT / "schedules"}


def modules() -> dict[str, Path]:
    """The file of each module of tesa, those of schedules/ among them."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            inner = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *inner)).removesuffix(".__init__")] = path
    return found


def imports(known: dict[str, Path], name: str) -> set[str]:
    """The modules of tesa that the module imports; a name that is loaded by its path, as a string, counts."""
    found = set()
    for wanted in _named(ast.parse(known[name].read_text())):
        module = wanted
        while module and module not in known:
            module = module.rpartition(".")[0]
        if module:
            found.add(module)
    return found - {name}


def _named(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("tesa."):
            yield node.value


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected parts of two or more modules (Tarjan's algorithm)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        stack.append(name)
        for after in sorted(graph[name]):
            if after not in number:
                visit(after)
                lowest[name] = min(lowest[name], lowest[after])
            elif after in stack:
                lowest[name] = min(lowest[name], number[after])
        if lowest[name] == number[name]:
            part = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(part) > 1:
                found.append(sorted(part))

    for name in sorted(graph):
        if name not in number:
            visit(name)
    return found


if __name__ == "__main__":
    known = modules()
    graph = {n: imports(known, n) for n in known}
    for c in circles(graph):
        print(len(c), c)
    order = "schedules errors base attributes targets frontend propagate compact layers decompose build records measure costs choose tune analyze runtime compiler kernels report cli doctor models".split()
    for n in graph:
        r = n.split(".")[1:2]
        for m in sorted(graph[n]):
            s = m.split(".")[1:2]
            if r and s and r != s and r[0] in order and (s[0] not in order or order.index(s[0]) > order.index(r[0])):
                print("UP", n, m)
            elif r and not s:
                print("UP top", n, m)
            elif r and r[0] not in order:
                print("?", n)
