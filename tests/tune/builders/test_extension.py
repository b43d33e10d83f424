"""A user's policy and pattern reach every process that generates code, or it is said why they do not."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tesa.attributes.patterns import classify, patterns
from tesa.attributes.patterns import forget as forget_pattern
from tesa.build.cache import Cache
from tesa.decompose import Piece, forget, policies, policy
from tesa.errors import UsageError
from tesa.extension import load_extension
from tesa.layers.layer import Layer
from tesa.measure.interfaces import Builder, BuildRequest
from tesa.measure.local import LocalRunner
from tesa.records.log import Log
from tesa.schedules.registry import find
from tesa.targets.target import parse_target
from tesa.tune.budget import Budget
from tesa.tune.builders import LocalBuilder
from tesa.tune.builders.families import adopt, gather
from tesa.tune.choose import choose
from tesa.tune.job import JobOptions, tune_layers
from tests.support import logged
from tests.tune.builders.clusters import cluster_builder, own_cluster
from tests.tune.builders.extensions import PROBLEM, clean_registries, page_source, page_weight
from tests.tune.builders.toys import build, contents

X86 = parse_target("x86")
WEIGHT = page_weight()


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    with clean_registries():
        yield


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The file of docs/policies.md, loaded, in a folder that no child looks into."""
    path = tmp_path / "mypolicy.py"
    path.write_text(page_source())
    load_extension(path)
    return path


def requests() -> list[BuildRequest]:
    """One fused kernel and one chain of the page's policy."""
    space = find("columns").space(PROBLEM, WEIGHT, X86.core)
    fused = next(config for config in space if any(key.startswith("fused.") for key in config))
    chain = next(config for config in space if any(key.startswith("1.") for key in config))
    return [BuildRequest(PROBLEM, WEIGHT, X86, "columns", config) for config in (fused, chain)]


def test_it_is_sent_to_a_child(page: Path, tmp_path: Path) -> None:
    with LocalBuilder(1, Cache(tmp_path / "objects")) as builder:
        assert len(contents(build(builder, requests(), tmp_path / "out"))) == 2


@pytest.mark.slow
def test_it_is_sent_to_a_cluster(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="pip install 'tesa[cluster]'")
    with (
        own_cluster(tmp_path) as cluster,
        cluster_builder(cluster.address, cache=Cache(tmp_path / "objects")) as builder,
    ):
        monkeypatch.setattr(builder._local, "results", lambda *_: pytest.fail("built here"))
        there = contents(build(builder, requests(), tmp_path / "there"))
    with LocalBuilder(1, Cache(tmp_path / "others")) as local:
        assert contents(build(local, requests(), tmp_path / "here")) == there


def tune(log: Log, builder: Builder) -> Any:
    plan = JobOptions(Budget(6), mode="random")
    return tune_layers(
        [Layer("fc", PROBLEM, WEIGHT)], X86, log=log, builder=builder, runner=LocalRunner(), options=plan
    )


@pytest.mark.slow
def test_it_is_tuned_and_its_times_are_used(page: Path, tmp_path: Path) -> None:
    with LocalBuilder(1, Cache(tmp_path / "objects")) as builder:
        tuned = tune(Log.load(tmp_path / "log", device="here"), builder)
    assert tuned.layers[0].failed == 0, tuned.notes
    (path,) = (tmp_path / "log").glob("*.jsonl")
    rows = logged(path)
    assert all(row["ok"] for row in rows), rows
    assert "columns" in {row["family"] for row in rows}
    log = Log.load(tmp_path / "log", device="here")
    (chosen,) = choose([Layer("fc", PROBLEM, WEIGHT)], X86, log=log, families=["columns"], measure=False)
    assert chosen.part.reason.startswith("measured"), chosen.part.reason


def locked() -> None:
    """Register a policy that no child can have."""
    lock = threading.Lock()

    @policy("locked")
    def split(problem: object, weight: np.ndarray[Any, Any], config: Mapping[str, int]) -> list[Piece]:
        with lock:
            return [Piece(weight)]


def test_what_cannot_be_sent_is_one_error_and_no_record(page: Path, tmp_path: Path) -> None:
    locked()
    wanted = r"^the policies locked cannot be sent to the compiler processes: TypeError: .*lock"
    with pytest.raises(UsageError, match=wanted):
        gather()
    with LocalBuilder(1, Cache(tmp_path / "objects")) as builder, pytest.raises(UsageError, match=wanted):
        tune(Log.load(tmp_path / "log", device="here"), builder)
    assert not list((tmp_path / "log").glob("*.jsonl"))


def test_a_lock_beside_the_functions_of_a_file_is_an_error(tmp_path: Path) -> None:
    """It cannot be imported by name either, as an installed module could."""
    text = page_source().replace("    full = full_columns(weight", "    assert LOCK\n    full = full_columns(weight")
    (tmp_path / "mypolicy.py").write_text(f"import threading\nLOCK = threading.Lock()\n{text}")
    load_extension(tmp_path / "mypolicy.py")
    with pytest.raises(UsageError, match=r"^the policies columns cannot be sent .*lock"):
        gather()


def test_a_module_that_a_child_lacks_is_one_error(tmp_path: Path) -> None:
    """As a worker on another machine does. It shows only in the child: the function imports it when it is called."""
    (tmp_path / "users_own.py").write_text("SHARE = 1\n")
    text = page_source().replace(
        "    full = full_columns(weight", "    import users_own\n    full = full_columns(weight"
    )
    (tmp_path / "mypolicy.py").write_text(text)
    load_extension(tmp_path / "mypolicy.py")
    wanted = requests()
    sys.path.remove(str(tmp_path))
    with (
        LocalBuilder(1, Cache(tmp_path / "objects")) as builder,
        pytest.raises(UsageError, match=r"columns.*No module named 'users_own'.*top of the file"),
    ):
        build(builder, wanted, tmp_path / "out")


def test_cloudpickle_is_missing(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(UsageError, match=r"policies columns, patterns columns .*pip install 'xgboost-cpu"):
        gather()


def test_a_child_forgets_what_its_parent_forgot(page: Path) -> None:
    sent = gather()
    forget("columns")
    forget_pattern("columns")
    without = gather()
    assert without.added == b""
    adopt(sent)
    assert classify(WEIGHT).kind == "columns"
    assert patterns()[-1].name == "unstructured"
    assert find("columns").space(PROBLEM, WEIGHT, X86.core)
    adopt(sent)
    assert [found.name for found in policies()].count("columns") == 1
    adopt(without)
    assert classify(WEIGHT).kind == "unstructured"
    assert "columns" not in [found.name for found in policies()]
    with pytest.raises(KeyError):
        find("columns")


def test_a_file_is_imported_once(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(page.parent)
    assert load_extension("mypolicy.py") is load_extension(page)
