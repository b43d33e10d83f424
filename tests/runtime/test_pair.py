"""A library and the description of another one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tesa.cli import main
from tesa.errors import ModelError
from tesa.runtime import load
from tesa.runtime.library import load_library

from .models import build, identity, mlp


def test_the_description_of_another_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = build(tmp_path, mlp(), "first"), build(tmp_path, mlp(scale=2.0), "second")
    digests = [json.loads((tmp_path / f"{name}.json").read_text())["digest"] for name in ("first", "second")]
    assert digests[0] != digests[1]
    for model, digest in zip((first, second), digests, strict=True):
        assert load_library(model.path).get_function("tesa_digest", query_imports=True)() == digest
    shutil.copy(tmp_path / "second.json", tmp_path / "first.json")
    with pytest.raises(ModelError, match=r"first\.json: describes another model than .*first\.so"):
        load(tmp_path / "first.so")
    assert main(["bench", str(tmp_path / "first.so")]) == 2
    assert "describes another model" in capsys.readouterr().err


def test_the_same_model_has_the_same_digest(tmp_path: Path) -> None:
    for name in ("one", "two"):
        build(tmp_path, identity(), name)
    texts = [json.loads((tmp_path / f"{name}.json").read_text())["digest"] for name in ("one", "two")]
    assert texts[0] == texts[1]
