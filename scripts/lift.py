"""Lifts the lock to the newest releases that pyproject.toml allows, and says what changed. `make lift` runs it.

requirements/lock.txt is a file of constraints for pip: every package that .venv may get, with its version. `make venv`
uses it, so that a release of somebody else's changes nothing until this has been run and the tests have passed. Where
the Pythons that tesa supports need different releases, there is a line for each, with a marker.

Needs Python 3.11 or newer, and nothing besides its pip.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import tomllib

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "lock.txt"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
_HEAD = "# Made by `make lift`; see scripts/lift.py. Do not edit: give a bound in pyproject.toml, and lift again.\n"

# pip can choose wheels for another Python, but reads markers such as `python_version < "3.11"`, and what a package says
# that it requires of Python, as of its own.
_PIP = """
import sys
from pip._vendor.packaging import markers
from pip._internal.resolution.resolvelib import factory
python = sys.argv[1] + ".99"
ours, other = markers.default_environment, {"python_version": sys.argv[1], "python_full_version": python}
markers.default_environment = lambda: {**ours(), **other}
candidate, version = factory.RequiresPythonCandidate, tuple(int(part) for part in python.split("."))
factory.RequiresPythonCandidate = lambda _: candidate(version)
from pip._internal.cli.main import main
sys.exit(main(sys.argv[2:]))
"""

Lines = dict[tuple[str, str], str]
"""The version by (name, marker)."""


def name_of(requirement: str) -> str:
    """The name of the package, spelt as a lock spells it.

    >>> name_of("Ruamel.YAML[jinja2]>=1")
    'ruamel-yaml'
    """
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]).lower()


def requirements(project: Mapping[str, Any]) -> Iterator[str]:
    """The requirements of a pyproject.toml: to build, to run, and of every extra, without those of itself."""
    yield from project["build-system"]["requires"]
    yield from project["project"]["dependencies"]
    for extra in project["project"]["optional-dependencies"].values():
        yield from (text for text in extra if name_of(text) != project["project"]["name"])


def resolved(wanted: list[str], python: str) -> dict[str, str]:
    """The newest version of each package that they need together on that Python. Nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        words = ["install", "--quiet", "--dry-run", "--ignore-installed", "--only-binary=:all:", "--target", folder]
        words += ["--python-version", python, "--report", str(report), *wanted]
        subprocess.run([sys.executable, "-c", _PIP, python, *words], check=True)
        found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    return {name_of(item["name"]): item["version"] for item in found}


def merged(found: Mapping[str, Mapping[str, str]]) -> Lines:
    """The lines of a lock from the versions by Python, the oldest first, and name.

    >>> merged({"3.10": {"a": "1", "b": "1"}, "3.11": {"a": "1", "b": "2"}})
    {('a', ''): '1', ('b', 'python_version == "3.10"'): '1', ('b', 'python_version >= "3.11"'): '2'}
    """
    lines: Lines = {}
    for name in sorted({name for versions in found.values() for name in versions}):
        each = [(python, versions[name]) for python, versions in found.items() if name in versions]
        runs = [(version, [python for python, _ in run]) for version, run in groupby(each, key=lambda item: item[1])]
        for version, pythons in runs:
            lines[name, _marker(pythons, list(found)) if len(runs) > 1 else ""] = version
    return lines


def _marker(some: list[str], pythons: list[str]) -> str:
    """Holds for some of the Pythons, and for newer ones than all of them if the last is among these."""
    if some[-1] == pythons[-1]:
        return f'python_version >= "{some[0]}"'
    if len(some) == 1:
        return f'python_version == "{some[0]}"'
    return f'python_version >= "{some[0]}" and python_version <= "{some[-1]}"'


def read(text: str) -> Lines:
    """The lines of a lock.

    >>> read('# a comment\\na==1\\nb==2 ; python_version == "3.10"')
    {('a', ''): '1', ('b', 'python_version == "3.10"'): '2'}
    """
    lines: Lines = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            pin, _, marker = line.partition(" ; ")
            name, _, version = pin.partition("==")
            lines[name, marker] = version
    return lines


def written(lines: Lines) -> str:
    """The text of a lock, which read reads."""
    return _HEAD + "".join(
        f"{name}=={version}{f' ; {marker}' if marker else ''}\n" for (name, marker), version in lines.items()
    )


def changes(old: Lines, new: Lines) -> Iterator[str]:
    """What became of each line, one a line.

    >>> list(changes({("a", ""): "1", ("b", ""): "1"}, {("a", ""): "2", ("c", ""): "1"}))
    ['a: 1 -> 2', 'b: 1 -> none', 'c: none -> 1']
    """
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key, "none"), new.get(key, "none")
        if before != after:
            name, marker = key
            yield f"{name}{f' ({marker})' if marker else ''}: {before} -> {after}"


def main() -> None:
    """Write the new lock."""
    wanted = sorted(set(requirements(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")))))
    old = read(LOCK.read_text(encoding="utf-8")) if LOCK.exists() else {}
    new = merged({python: resolved(wanted, python) for python in PYTHONS})
    LOCK.write_text(written(new), encoding="utf-8")
    print("\n".join(changes(old, new)) or "nothing changed")


if __name__ == "__main__":
    main()
