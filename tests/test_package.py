"""What ships: every folder of code is listed, the README is whole, and the package can be run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(str(file.relative_to(ROOT)) for file in (*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/*.md")))


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs the sources")
def test_every_package_is_listed():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {"tesa.apps", "tesa.tuning_logs"}
    for folder, name in ((ROOT / "tesa", "tesa"), (ROOT / "schedules", "tesa.schedules")):
        for init in folder.rglob("__init__.py"):
            found.add(".".join([name, *init.parent.relative_to(folder).parts]))
    assert listed == found


def test_logs_and_models_ship():
    from tesa.models import digits_path
    from tesa.records.locations import shipped

    assert digits_path().stat().st_size > 1_000_000
    assert list(shipped().glob("*.jsonl"))


def test_the_package_can_be_run():
    done = subprocess.run([sys.executable, "-m", "tesa", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("tesa ")
    wrong = subprocess.run([sys.executable, "-m", "tesa", "no-such-verb"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2


@pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="needs the sources")
@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_in_the_documents_lead_somewhere(name):
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    local = [link.partition("#")[0] for link in links if "://" not in link and not link.startswith(("#", "mailto:"))]
    assert [link for link in local if not ((ROOT / name).parent / link).exists()] == []


@pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="needs the sources")
def test_nothing_is_left_open_in_the_readme():
    assert "@@" not in (ROOT / "README.md").read_text(encoding="utf-8")


def test_importing_tesa_loads_nothing_large():
    heavy = "{'numpy', 'onnx', 'rich', 'tvm', 'tvm_ffi'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, tesa; print({heavy})"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
