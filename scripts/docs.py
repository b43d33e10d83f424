"""Builds the site of the documentation: the pages of docs/, the READMEs, the command line and the Python interface.

    python scripts/docs.py [FOLDER]      # default: build/site

The pages are copied as they lie in the repository, so that their links are the same there and here. A link that leads
nowhere, or a name without a docstring, ends it with an error.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILT = ROOT / "build"
PAGES = (
    "*.md", "LICENSE", "CITATION.cff", "docs/*.md", "docs/*.png", "apps/*/*", "benchmarks/*", "benchmarks/results/*",
)  # fmt: skip
MODULES = {
    "compile, load, run": ("tesa.compiler", "tesa.runtime"),
    "kernels": (
        "tesa.kernels.kernel",
        "tesa.kernels.compiled",
        "tesa.kernels.forms",
        "tesa.kernels.sweep",
        "tesa.kernels.comparison",
    ),
    "attributes and patterns": ("tesa.attributes", "tesa.attributes.patterns", "tesa.propagate"),
    "pruning, quantizing, exploring": ("tesa.compress", "tesa.explore", "tesa.torch"),
    "tuning": ("tesa.tune.model", "tesa.tune.calibrate", "tesa.analyze.analysis", "tesa.analyze.inspection"),
    "errors": ("tesa.errors",),
}  # fmt: skip


def main(folder: Path) -> int:
    """Write the site; the exit code of MkDocs."""
    pages = BUILT / "docs"
    shutil.rmtree(pages, ignore_errors=True)
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file():
                (pages / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, pages / path.relative_to(ROOT))
    _notebooks(pages)
    reference = pages / "reference"
    reference.mkdir(parents=True)
    (reference / "command-line.md").write_text(_command_line(), encoding="utf-8")
    for title, modules in MODULES.items():
        text = f"# {title.capitalize()}\n\n" + "\n\n".join(f"::: {name}" for name in modules) + "\n"
        (reference / f"{_file(title)}.md").write_text(text, encoding="utf-8")
    site = folder.resolve()  # MkDocs takes a relative one as beside its own file, in docs/
    words = ["build", "--strict", "--config-file", str(ROOT / "docs" / "mkdocs.yml"), "--site-dir", str(site)]
    return subprocess.run([sys.executable, "-m", "mkdocs", *words], check=False).returncode


def _notebooks(pages: Path) -> None:
    """Each notebook as a page, with the outputs that are stored in it; links to a notebook lead to its page."""
    from nbconvert import MarkdownExporter

    folder = pages / "notebooks"
    folder.mkdir()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        resources = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
        text, made = MarkdownExporter().from_filename(str(path), resources)
        for name, data in made["outputs"].items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
        (folder / f"{path.stem}.md").write_text(text, encoding="utf-8")
    for page in pages.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r"(\]\([^)\s]*notebooks/\w+)\.ipynb\)", r"\1.md)", text), encoding="utf-8")


def _file(title: str) -> str:
    return title.replace(", ", "-").replace(" ", "-")


def _command_line() -> str:
    """The help of every verb on one page."""
    from tesa.cli import VERBS
    from tesa.cli import main as tesa

    text = ["# The command line", "", "Every verb takes `--json` and `--quiet`; `tesa VERB -h` shows what is here.", ""]
    for verb in VERBS:
        stream = io.StringIO()
        with contextlib.redirect_stdout(stream):
            tesa([verb.name, "-h"])
        text += [f"## tesa {verb.name}", "", "```text", stream.getvalue().rstrip(), "```", ""]
    return "\n".join(text)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else BUILT / "site"))
