"""The frame of the command line: help, exit codes, one message per error, nothing on standard output but the result."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest

import tesa.cli
from tesa.cli import VERBS, logs, main
from tesa.cli.verb import Outcome, Verb
from tesa.errors import CheckFailed, ModelError, UnsupportedError

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
Capture = pytest.CaptureFixture[str]


def typed(*words: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run tesa as a user types it."""
    result = subprocess.run([tesa_program(), *words], capture_output=True, text=True, cwd=cwd, check=False)
    assert result.returncode == code, result.stderr
    return result


def tesa_program() -> str:
    """The console script of the environment that runs the tests."""
    program = Path(sys.executable).parent / "tesa"
    assert program.is_file(), "the package is not installed in this environment: pip install -e ."
    return str(program)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Namespace], Outcome]], None]:
    """Put a verb called `try` with that body on the command line."""

    def add(body: Callable[[Namespace], Outcome]) -> None:
        extra = Verb("try", "for a test", (("tesa try", "nothing"),), lambda parser: None, body)
        monkeypatch.setattr(tesa.cli, "VERBS", (*VERBS, extra))

    return add


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test in an empty folder."""
    monkeypatch.chdir(tmp_path)


def failing(error: BaseException) -> Callable[[Namespace], Outcome]:
    def body(_: Namespace) -> Outcome:
        raise error

    return body


def test_version_and_help_import_nothing_heavy(tmp_path: Path) -> None:
    heavy = ("tvm", "onnx", "numpy", "rich", "matplotlib", "onnxruntime")
    code = (
        "import sys; from tesa.cli import main; codes = [main([w]) for w in ('--version', '-h')]; "
        f"print(codes, [m for m in {heavy} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True).stdout
    assert out.splitlines()[-1] == "[0, 0] []"
    assert out.startswith("tesa 0.")


def test_as_typed(tmp_path: Path) -> None:
    assert "apache-tvm-ffi" in typed("--version", cwd=tmp_path).stdout
    assert typed("compile", cwd=tmp_path, code=2).stderr.startswith("tesa: error: the following arguments are required")


@pytest.mark.parametrize("name", [verb.name for verb in VERBS])
def test_every_verb_has_examples(name: str, capsys: Capture) -> None:
    assert main([name, "-h"]) == 0
    shown = capsys.readouterr().out
    assert f"Examples:\n  tesa {name}" in shown
    assert "--json" in shown


@pytest.mark.parametrize("name", [verb.name for verb in VERBS])
def test_examples_can_be_parsed(name: str) -> None:
    for line, _ in next(verb for verb in VERBS if verb.name == name).examples:
        words = shlex.split(re.split(r" [|>] ", line)[0])
        assert words[:2] == ["tesa", name]
        tesa.cli._parser().parse_args(words[1:])


@pytest.mark.parametrize("name", list(logs._ACTIONS))
def test_every_action_has_examples(name: str, capsys: Capture) -> None:
    assert main(["logs", name, "-h"]) == 0
    assert f"Examples:\n  tesa logs {name}" in capsys.readouterr().out


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_command_lines_in_the_documents_can_be_parsed(path: Path) -> None:
    for line in re.findall(r"^ +(tesa [a-z].*)$", path.read_text(encoding="utf-8"), re.MULTILINE):
        for command in re.split(r" && | \|\| ", re.split(r"\s+#|\s[|>]\s|\.\.\.", line)[0]):
            words = shlex.split(re.sub("HOST:PORT", "10.0.0.2:9190", command))
            if words[:1] == ["tesa"]:
                tesa.cli._parser().parse_args(words[1:])


def test_no_verb_shows_the_help(capsys: Capture) -> None:
    assert main([]) == 2
    assert "Exit codes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["fly"], "invalid choice: 'fly' (choose from"),
        (["compil"], "did you mean 'compile'?; see tesa -h"),
        (["compile", "a.onnx"], "required: -o/--output; see tesa compile -h"),
        (["compile", "a.onnx", "-o", "a.so", "--threads", "0"], "'0' is not a whole number above 0"),
        (["compile", "a.onnx", "-o", "a.so", "--shape", "x=1,-3"], "'x=1,-3' is not NAME=SIZES"),
        (
            ["compile", "a.onnx", "-o", "a.json"],
            "a.json: format vm is a library for TVM's virtual machine, which Python and C++ load with TVM's runtime; "
            "give a name that ends in .so",
        ),
        (["bench", "a.so", "--vs", "onnxruntime"], "needs the model that it runs: add --model model.onnx"),
        (["verify", "a.so", "--ref", "a.onnx", "--atol", "nan"], "'nan' is not a finite number"),
        (["list", "colours"], "invalid choice: 'colours'"),
        (["inspect", "a.onnx", "--plot", "a.gif"], "cannot draw a.gif: the name must end in"),
        (["run", "a.so", "-i", "none.npz"], "cannot read none.npz: there is no such file"),
        (["explain", "none.so"], "cannot read none.json: there is no such file"),
    ],
)
@pytest.mark.usefixtures("elsewhere")
def test_wrong_use(words: list[str], text: str, capsys: Capture) -> None:
    assert main(words) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert len(streams.err.strip().splitlines()) == 1
    assert streams.err.startswith("tesa: error: ")
    assert text in streams.err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (CheckFailed("conv1 is wrong"), 1, "tesa: error: conv1 is wrong"),
        (ModelError("not ONNX"), 2, "tesa: error: not ONNX"),
        (UnsupportedError("no such target yet"), 3, "tesa: error: no such target yet"),
        (PermissionError(13, "Permission denied", "x.npz"), 2, "Permission denied: 'x.npz'"),
        (ZeroDivisionError("by zero"), 70, "ZeroDivisionError: by zero (a defect of tesa; the same command with -vv"),
        (KeyboardInterrupt(), 130, "tesa: error: stopped by Ctrl-C"),
        (BrokenPipeError(32, "Broken pipe"), 70, "a defect of tesa"),
    ],
)
def test_errors_become_one_line_and_a_code(
    verb: Callable[..., None], error: BaseException, code: int, text: str, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("TESA_DEBUG", raising=False)
    verb(failing(error))
    assert main(["try"]) == code
    streams = capsys.readouterr()
    assert streams.out == ""
    assert text in streams.err
    assert len(streams.err.splitlines()) == 1


@pytest.mark.parametrize(("words", "variable"), [(["-vv"], ""), (["-v", "--verbose"], ""), ([], "1")])
def test_the_stack_is_shown_on_request(
    verb: Callable[..., None], words: list[str], variable: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESA_DEBUG", variable)
    verb(failing(ZeroDivisionError("by zero")))
    assert main(["try", *words]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_a_failed_check_still_shows_what_was_found(verb: Callable[..., None], capsys: Capture) -> None:
    verb(lambda _: Outcome({"ok": False}, lambda: ["a table"], "logits differ"))
    assert main(["try"]) == 1
    streams = capsys.readouterr()
    assert (streams.out, streams.err) == ("a table\n", "tesa: error: logits differ\n")


def test_json_is_alone_on_standard_output(tmp_path: Path) -> None:
    body = (
        "import os, sys, tesa.cli as cli\n"
        "from tesa.cli.verb import Outcome, Verb\n"
        "def run(args):\n"
        "    print('from Python')\n"
        "    os.write(1, b'from C++\\n')\n"
        "    return Outcome({'n': 1}, lambda: [])\n"
        "cli.VERBS = (Verb('try', 'x', (), lambda p: None, run),)\n"
        "sys.exit(cli.main(['try', '--json']))\n"
    )
    result = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert json.loads(result.stdout) == {"n": 1}
    assert "from Python" in result.stderr
    assert "from C++" in result.stderr


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    command = f"'{tesa_program()}' list patterns --json | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (result.stderr, result.stdout) == ("", "")
    assert result.returncode in (0, 141)  # 0 where `true` was slower


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_no_half_written_file(tmp_path: Path, number: signal.Signals, code: int) -> None:
    body = (
        "import sys, time, tesa.cli as cli\n"
        "from tesa.cli.verb import Verb\n"
        "from tesa.base.files import atomic_path\n"
        "def run(args):\n"
        "    with atomic_path('model.so') as aside:\n"
        "        aside.write_text('half')\n"
        "        time.sleep(60)\n"
        "cli.VERBS = (Verb('try', 'x', (), lambda p: None, run),)\n"
        "sys.exit(cli.main(['try']))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", body], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 600
    while not any(path.stat().st_size for path in tmp_path.iterdir()):
        assert time.monotonic() < deadline, "the child wrote nothing"
        time.sleep(0.01)
    child.send_signal(number)
    _, errors = child.communicate(timeout=600)
    assert child.returncode == code
    assert errors.startswith("tesa: error: stopped by ")
    assert len(errors.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_inside_a_call_from_c_is_no_defect(
    number: signal.Signals, code: int, verb: Callable[..., None], capsys: Capture
) -> None:
    tvm_ffi = pytest.importorskip("tvm_ffi")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def run(args: Namespace) -> Outcome:
        tvm_ffi.convert(lambda: signal.raise_signal(number))()  # as a profile's clock is called for each kernel
        raise AssertionError("the signal was lost")

    verb(run)
    try:
        assert main(["try"]) == code
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    said = capsys.readouterr().err
    assert said.startswith("tesa: error: stopped by ")
    assert "defect" not in said


def test_a_warning_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    import tesa.cli

    tesa.cli._warn(UserWarning("the log cannot be written"), UserWarning, "file.py", 3)
    assert capsys.readouterr().err == "tesa: warning: the log cannot be written\n"


def test_explain_wants_a_compiled_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.json").write_text("{}")
    assert main(["explain", str(tmp_path / "model.bin")]) == 2
    assert "is no compiled model" in capsys.readouterr().err
    (tmp_path / "k.json").write_text('{"tesa_kernel": 1}')
    assert main(["explain", str(tmp_path / "k.so")]) == 2
    assert "single kernel" in capsys.readouterr().err
