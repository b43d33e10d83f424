"""tesa completion: the scripts, run by the shells that they are for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tesa.cli import main
from tests.support import PATIENCE_S, require_system

Capture = pytest.CaptureFixture[str]


def script(shell: str, folder: Path, capsys: Capture) -> Path:
    """The script for a shell, in a file of a folder."""
    capsys.readouterr()
    assert main(["completion", shell]) == 0
    path = folder / f"_tesa.{shell}"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    return path


def bash(path: Path, *words: str) -> set[str]:
    """The words that bash offers for the last of these, which may be the beginning of one."""
    require_system("bash", "bash")
    line = " ".join(words)
    code = f"""
source {path}
COMP_WORDS=({" ".join(repr(word) for word in words)}) COMP_CWORD={len(words) - 1}
COMP_LINE={line!r} COMP_POINT={len(line)} COMP_TYPE=9
complete -p tesa >&2
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
