"""Arguments that are wrong are told with what is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tesa
from tesa.base.numbers import whole
from tesa.cli import main
from tesa.errors import UsageError
from tesa.models import digits_path


@pytest.mark.parametrize("value", [1, np.int64(3)])
def test_whole_numbers(value: Any) -> None:
    assert whole("threads", value) == value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("2", "give threads=2"),
        (2.0, "give threads=2"),
        (0, "got 0"),
        (1.5, "got 1.5"),
        (True, "got True"),
        ("x", "'x'"),
    ],
)
def test_what_is_none(value: Any, said: str) -> None:
    with pytest.raises(UsageError, match="threads must be a whole number of at least 1") as caught:
        tesa.compile(digits_path(), output="model.so", threads=value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("function", "keyword", "near"),
    [
        ("tune_model", "trails", "trials"),
        ("compile", "thread", "threads"),
        ("kernel", "familiy", "family"),
        ("import_onnx", "mask", "masks"),
        ("inspect_model", "shape", "shapes"),
        ("load", "treads", "threads"),
    ],
)
def test_misspelt_keywords(function: str, keyword: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"has no argument '{keyword}'; did you mean '{near}'"):
        getattr(tesa, function)("model", **{keyword: 1})


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["tune", "model.onnx", "--trails", "64"], "--trials"),
        (["compile", "model.onnx", "-o", "model.so", "--thread=2"], "--threads"),
        (["logs", "best", "--lgo", "x"], "--log"),
    ],
)
def test_misspelt_options(words: list[str], near: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert f"did you mean {near}?" in error
    assert f"see tesa {words[0]}" in error
