"""Checks what a release consists of: the files in the sdist and the wheel, and a clean install of both. `make dist`.

    python scripts/dist.py dist python3.10 python3.13

For each Python an environment of its own is made, with the versions of requirements/lock.txt; the first one gets the
sdist, all get the wheel. In each the command line answers, tesa's self-test passes, and the size is told.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / "lock.txt"
SHIPPED = {"tesa": "tesa", "schedules": "tesa/schedules", "tuning_logs": "tesa/tuning_logs"}
PAPERS = ("LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "SECURITY.md", "pyproject.toml")


def main(folder: Path, pythons: list[str]) -> int:
    """0 if all is well; what is wrong is printed."""
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    wrong = [*missing(sdist, wheel), *strange(sdist, wheel)]
    if not wrong:
        for number, python in enumerate(pythons):
            for archive in (sdist, wheel) if number == 0 else (wheel,):
                print(install(python, archive), flush=True)
    print("\n".join(wrong) or f"{sdist.name} and {wheel.name} are whole")
    return bool(wrong)


def names(archive: Path) -> set[str]:
    """The files of an archive; those of an sdist without the folder that they all lie in."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            return set(opened.namelist())
    with tarfile.open(archive) as opened:
        return {member.name.partition("/")[2] for member in opened if member.isfile()}


def sources() -> Iterator[tuple[str, str]]:
    """Each tracked file of the package: where it lies in the checkout, and where in the wheel."""
    tracked = subprocess.run(["git", "ls-files", *SHIPPED], cwd=ROOT, capture_output=True, text=True, check=True)
    for path in tracked.stdout.splitlines():
        top, _, rest = path.partition("/")
        yield path, f"{SHIPPED[top]}/{rest}"


def missing(sdist: Path, wheel: Path) -> list[str]:
    """A line for each file that should be in an archive and is not."""
    packed, wheeled = names(sdist), names(wheel)
    wanted = list(sources())
    return [
        *(f"{sdist.name} lacks {path}" for path in [*PAPERS, *(path for path, _ in wanted)] if path not in packed),
        *(f"{wheel.name} lacks {path}" for _, path in wanted if path not in wheeled),
    ]


def strange(sdist: Path, wheel: Path) -> list[str]:
    """A line for each file that has no business in an archive."""
    tops = {*SHIPPED, "apps", "docs", "requirements", "tesa.egg-info", *PAPERS, "PKG-INFO", "setup.cfg", "MANIFEST.in"}
    return [
        *(f"{sdist.name} has {name}" for name in names(sdist) if name.split("/")[0] not in tops),
        *(f"{wheel.name} has {name}" for name in names(wheel) if not name.startswith(("tesa/", "tesa-"))),
        *(
            f"{path.name} has {name}"
            for path in (sdist, wheel)
            for name in names(path)
            if name.endswith((".pyc", ".so"))
        ),
    ]


def install(python: str, archive: Path) -> str:
    """Install an archive in an environment of its own, and try it there; a line about it. CalledProcessError else."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        subprocess.run([python, "-m", "venv", str(home / "env")], check=True)
        pip = [str(home / "env/bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        before = size(home)
        subprocess.run([*pip, "--constraint", str(LOCK), str(archive.resolve())], check=True, cwd=home)
        added, program = size(home) - before, str(home / "env/bin/tesa")

        def said(*words: str) -> str:
            return subprocess.run([program, *words], check=True, cwd=home, capture_output=True, text=True).stdout

        version = said("--version").split(",")[0]
        said("doctor")
        model = next(home.glob("env/lib/*/site-packages/tesa/models/digits.onnx"))
        said("compile", str(model), "-o", "digits.so", "--no-measure")
        return f"{python}, {archive.name}: {version}, {added / 1e6:.0f} MB installed, compiled {model.name}"


def size(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:] or [sys.executable]))
