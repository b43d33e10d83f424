"""tesa tune, as a user types it, on layers of the model that ships with tesa; and how it ends when it is stopped."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tesa.cli import compile, main
from tesa.cli.options import chosen
from tesa.cli.tune import VERB, _compile
from tesa.models import digits_path
from tesa.targets.target import host_cpu, parse_target
from tests.support import PATIENCE_S, kill_family, logged, until

Capture = pytest.CaptureFixture[str]
DIGITS = str(digits_path())
QUICK = ["--layer", "classifier", "--layer", "*5.depthwise", "--trials", "4", "--mode", "random"]


def tune(capsys: Capture, *words: str, code: int = 0) -> tuple[str, str]:
    """Standard output and error of a command line that ends with that code."""
    capsys.readouterr()
    assert main(["tune", DIGITS, *words]) == code, capsys.readouterr().err
    streams = capsys.readouterr()
    return streams.out, streams.err


def records(folder: Path) -> list[dict[str, Any]]:
    return logged(*folder.glob("*.jsonl"))


def test_tune_then_tune_again(tmp_path: Path, capsys: Capture) -> None:
    out, err = tune(capsys, *QUICK, "--log", str(tmp_path), "--resume")
    told = f"nothing of these layers for {parse_target(None).name} on {host_cpu()} in "
    assert told in " ".join(out.split())
    assert f"{told}{tmp_path}: the job begins anew" in err
    assert "classifier" in out
    assert "block5.depthwise" in out
    assert "stem" not in out
    assert "geometric mean of 2 layers" in out
    assert "tune " in err
    assert " failed" in err
    told_next = next(line for line in out.splitlines() if line.startswith("  tesa compile "))
    assert shlex.split(told_next) == ["tesa", "compile", DIGITS, "-o", "digits.so", "--log", str(tmp_path)]
    found = records(tmp_path)
    assert len(found) >= 6
    assert all(record["ok"] for record in found)
    (path,) = tmp_path.glob("*.jsonl")
    again = json.loads(tune(capsys, *QUICK, "--log", str(tmp_path), "--resume", "--json")[0])
    assert again["measured"] == 0
    assert again["notes"] == []
    assert records(tmp_path) == found
    assert path.stem == again["device"]["cpu"]
    assert len(again["layers"]) == 2
    for layer in again["layers"]:
        assert layer["best_ms"] > 0
        assert layer["gain"] == pytest.approx(layer["default_ms"] / layer["best_ms"])
        assert layer["final"]


def test_the_command_that_compiles_has_the_options_of_the_job() -> None:
    parser = argparse.ArgumentParser()
    VERB.arguments(parser)
    words = ["--target", "x86:haswell", "--threads", "2", "--log", "my logs", "--shape", "batch=1", "--shape", "n=1,64"]
    given = ["m/a.onnx", *words, "--no-compact", "--mask", "masks.npz", "--rpc", "h:1", "--key", "k"]
    told = shlex.split(_compile(parser.parse_args([*given, "--trials", "9", "--jobs", "2", "--seed", "4"])))
    assert told[:5] == ["tesa", "compile", "m/a.onnx", "-o", "a.so"]
    compiles = argparse.ArgumentParser()
    compile.VERB.arguments(compiles)
    read = compiles.parse_args(told[2:])
    assert chosen(read) == {**chosen(parser.parse_args(given)), "jobs": None}


@pytest.mark.parametrize(
    ("words", "pieces"),
    [
        (["--trials", "0"], ["'0' is not a whole number above 0"]),
        (["--minutes", "0"], ["'0' is not a number of minutes above 0"]),
        (["--minutes", "nan"], ["'nan' is not a number of minutes above 0"]),
        (["--seed", "-1"], ["--seed"]),
        (["--seed", "x"], ["'x' is not a whole number of 0 or more"]),
        (["--mode", "modle"], ["unknown mode of search 'modle'", "did you mean model?"]),
        (["--rpc", "127.0.0.1:9190"], ["name one with --key KEY"]),
        (["--rpc", "localhost", "--key", "a"], ["'localhost' is no address of a tracker; expected HOST:PORT"]),
        (["--rpc", "host:99999", "--key", "a"], ["'host:99999' is no address"]),
        (["--key", "a"], ["give its address with --rpc HOST:PORT"]),
        (["--layer", "clasifier"], ["no layer with weights is called 'clasifier'", "did you mean classifier?"]),
        (["--target", "x86:nosuch"], ["LLVM knows no x86 CPU 'nosuch'"]),
    ],
)
def test_what_makes_no_sense(words: list[str], pieces: list[str], capsys: Capture) -> None:
    out, err = tune(capsys, *words, code=2)
    (line,) = (line for line in err.splitlines() if line.startswith("tesa: error: "))
    assert out == ""
    assert all(piece in line for piece in pieces), line


def test_a_target_that_cannot_run_here(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesa.measure.runners.runs_here", lambda target: False)
    _, err = tune(capsys, "--target", "x86:graniterapids", code=2)
    assert "this machine cannot run code for x86:graniterapids" in err
    assert "--rpc HOST:PORT --key KEY" in err


def test_without_xgboost_there_is_one_message(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesa.tune.search.cost_model.find_spec", lambda name: None)
    _, err = tune(capsys, code=2)
    assert "pip install 'xgboost-cpu" in err
    assert "Traceback" not in err


def start(folder: Path, *words: str) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A job in a process of its own, some measurements after its start, and the processes that it has."""
    command = [sys.executable, "-m", "tesa", "tune", DIGITS, "--log", str(folder), "--mode", "exhaustive", *words]
    return started(command, folder)


def started(command: Sequence[str], folder: Path) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """The process of a command that has written to the log in folder, and the processes that it has."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: records(folder) or child.poll() is not None, "a measurement")
        assert child.poll() is None, child.communicate()
        family = psutil.Process(child.pid).children(recursive=True)
        assert family
    except BaseException:
        kill_family(child.pid)
        raise
    return child, family


def measured_once(found: Sequence[dict[str, Any]]) -> bool:
    """Whether each candidate was measured once, but for the last comparison of a layer, which is of known ones only."""
    turns: dict[str, list[str]] = {}
    for line in found:
        key = f"{line['task']['pattern']['digest']} {line['family']} {line['config']}"
        turns.setdefault(line["time"], []).append(key)
    known, again = set[str](), 0
    for keys in turns.values():
        if len(set(keys)) < len(keys) or (known & set(keys) and not known >= set(keys)):
            return False
        again += bool(known & set(keys))
        known |= set(keys)
    return again <= 4 * len({key.split()[0] for key in known})  # rounds of a comparison


def ended(family: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
    return not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
def test_ctrl_c_shows_the_best_so_far(tmp_path: Path) -> None:
    child, family = start(tmp_path)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 130, err
    assert "tesa: error: stopped by Ctrl-C; the best so far is kept" in err
    assert "Traceback" not in err
    assert "stem" in out
    assert ended(family)
    assert records(tmp_path)


@pytest.mark.slow
def test_kill_leaves_no_process_behind_and_nothing_is_measured_twice(tmp_path: Path, capsys: Capture) -> None:
    child, family = start(tmp_path)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate(timeout=PATIENCE_S)
    assert ended(family)
    before = records(tmp_path)
    layer = str(before[0]["task"]["pattern"]["digest"])
    known = {f"{line['family']} {line['config']}" for line in before if line["task"]["pattern"]["digest"] == layer}
    words = ["--log", str(tmp_path), "--layer", "stem", "--mode", "random", "--resume"]
    found = json.loads(tune(capsys, *words, "--trials", str(len(known) + 5), "--json")[0])
    after = records(tmp_path)
    assert after[: len(before)] == before
    assert len(after) == len(before) + found["measured"]
    assert found["layers"][0]["trials"] == len(known) + 5
    assert measured_once(after)
