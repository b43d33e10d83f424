"""tesa completion: the scripts, run by the shells that they are for."""

from __future__ import annotations

import contextlib
import io
import subprocess
from pathlib import Path

import pytest

from tesa.cli import main
from tesa.cli.completion_names import functions
from tesa.cli.listing import KINDS
from tests.support import PATIENCE_S, require_system

Capture = pytest.CaptureFixture[str]


def script(shell: str, folder: Path, capsys: Capture) -> Path:
    """The script for a shell, in a file of a folder."""
    capsys.readouterr()
    assert main(["completion", shell]) == 0
    path = folder / f"_tesa.{shell}"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    return path


def bash(path: Path, *words: str, more: str = "") -> set[str]:
    """The words that bash offers for the last of these, which may be the beginning of one. more: what runs before."""
    require_system("bash", "bash")
    line = " ".join(words)
    code = f"""
source {path}
COMP_WORDS=({" ".join(repr(word) for word in words)}) COMP_CWORD={len(words) - 1}
COMP_LINE={line!r} COMP_POINT={len(line)} COMP_TYPE=9
complete -p tesa >&2
{more}
"$(complete -p tesa | sed 's/.*-F \\([^ ]*\\).*/\\1/')" tesa {words[-1]!r} {words[-2]!r}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", code], capture_output=True, text=True, cwd=path.parent, timeout=PATIENCE_S, check=True
    )
    return {line.strip() for line in done.stdout.splitlines()} - {""}


def test_bash_offers_verbs_options_choices_and_files(tmp_path: Path, capsys: Capture) -> None:
    path = script("bash", tmp_path, capsys)
    (tmp_path / "net.onnx").touch()
    (tmp_path / "folder").mkdir()
    assert bash(path, "tesa", "comp") == {"compile", "completion"}
    assert bash(path, "tesa", "compile", "--thr") == {"--threads"}
    assert bash(path, "tesa", "logs", "me") == {"merge"}
    assert bash(path, "tesa", "list", "fam") == {"families"}
    assert bash(path, "tesa", "compile", "--storage", "b") == {"bfloat16"}
    assert "net.onnx" in bash(path, "tesa", "inspect", "n")
    assert "folder" in {found.rstrip("/") for found in bash(path, "tesa", "compile", "--log", "f")}


@pytest.fixture(scope="module")
def lists() -> dict[str, str]:
    """All that `tesa list` answers, by kind."""
    found = {}
    for kind in KINDS:
        stream = io.StringIO()
        with contextlib.redirect_stdout(stream):
            assert main(["list", kind, "--json"]) == 0
        found[kind] = stream.getvalue()
    return found


@pytest.fixture
def listed(tmp_path: Path, lists: dict[str, str]) -> Path:
    """A folder with a program `tesa` that answers what the real one lists, and writes down what it was asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for kind, text in lists.items():
        (folder / kind).write_text(text, encoding="utf-8")
    program = folder / "tesa"
    program.write_text(f'#!/bin/sh\necho "$*" >> {folder}/asked\n[ "$3" = --json ] && cat "{folder}/$2"\n')
    program.chmod(0o755)
    return folder


NAMES = [  # what is typed, what is offered: bash takes the pieces of a word between its breaks for words
    (("compile", "--target", "x86:cascadel"), ("x86", ":", "cascadel"), "x86:cascadelake"),
    (("tune", "--target", "aarch64:cortex-a7"), ("aarch64", ":", "cortex-a7"), "aarch64:cortex-a76"),
    (("analyze", "--target", "rocm:gfx90"), ("rocm", ":", "gfx90"), "rocm:gfx90a"),
    (("compile", "--family", "unr"), ("unr",), "unrolled"),
    (("compile", "--form", "cov"), ("cov",), "cover"),
    (("tune", "--mode", "ex"), ("ex",), "exhaustive"),
    (("prune", "--pattern", "bl"), ("bl",), "block=4x4"),
    (("analyze", "--impose", "0.8:bl"), ("0.8", ":", "bl"), "0.8:block=4x4"),
    (("explore", "--level", ""), ("",), "0.5:channel"),
]


@pytest.mark.parametrize(("typed", "pieces", "offered"), NAMES, ids=lambda value: "".join(value[-1:]))
def test_bash_offers_names(
    typed: tuple[str, ...], pieces: tuple[str, ...], offered: str, listed: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = script("bash", tmp_path, capsys)
    words = ("tesa", *typed[:-1])
    line = " ".join((*words, typed[-1]))
    more = f"PATH={listed}:$PATH COMP_WORDS=({' '.join(map(repr, (*words, *pieces)))}) COMP_LINE={line!r}"
    more += f" COMP_CWORD={len(words) + len(pieces) - 1} COMP_POINT={len(line)}"
    last = typed[-1].rpartition(":")[2]
    found = bash(path, *words, typed[-1], more=more)
    assert offered.removeprefix(typed[-1].removesuffix(last)) in found
    assert all(name.startswith(last) for name in found)


def test_bash_takes_the_value_behind_an_equals_sign(listed: Path, tmp_path: Path, capsys: Capture) -> None:
    path = script("bash", tmp_path, capsys)
    line = "tesa compile --target=x86:cascadel"
    more = f"PATH={listed}:$PATH COMP_WORDS=(tesa compile --target = x86 : cascadel) COMP_CWORD=6"
    more += f" COMP_LINE={line!r} COMP_POINT={len(line)}"
    assert bash(path, "tesa", "compile", "--target", "cascadel", more=more) == {"cascadelake"}


def test_bash_asks_for_names_once(listed: Path, tmp_path: Path, capsys: Capture) -> None:
    path = script("bash", tmp_path, capsys)
    more = f"PATH={listed}:$PATH; _tesa; _tesa"
    assert bash(path, "tesa", "tune", "--mode", "ra", more=more) == {"random"}
    assert (listed / "asked").read_text(encoding="utf-8").splitlines() == ["list modes --json"]


def test_zsh_offers_names(listed: Path) -> None:
    code = f"""
PATH={listed}:$PATH
compadd() {{ shift; print -l -- "$@" }}
compset() {{ PREFIX="${{PREFIX#*:}}" }}
{functions("zsh")}
_tesa_targets; _tesa_families; _tesa_patterns; PREFIX=0.8: _tesa_levels
"""
    done = subprocess.run(
        [require_system("zsh", "zsh"), "-f"], input=code, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert done.stderr == ""
    assert {"x86:cascadelake", "unrolled", "cover", "block=4x4", "channel"} <= set(done.stdout.splitlines())


def test_zsh_reads_its_script(tmp_path: Path, capsys: Capture) -> None:
    path = script("zsh", tmp_path, capsys)
    code = f'autoload -Uz compinit && compinit -u -d {tmp_path}/dump && eval "$(cat {path})" && print $_comps[tesa]'
    done = subprocess.run(
        [require_system("zsh", "zsh"), "-f", "-c", code],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.strip() == "_shtab_tesa"
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#compdef tesa\n")
    assert "_files" in text


def test_what_is_no_shell(capsys: Capture) -> None:
    assert main(["completion", "bahs"]) == 2
    assert "did you mean 'bash'?" in capsys.readouterr().err
