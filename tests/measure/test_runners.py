"""The runner for a target, and the check that a device fits it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tesa.base.hostinfo import read_cpu
from tesa.errors import UsageError
from tesa.measure.local import LocalRunner
from tesa.measure.remote import RpcRunner
from tesa.measure.runners import check_device, runner_for, tracker_address
from tesa.targets.target import host_cpu, parse_target


def test_the_runner_that_is_asked_for() -> None:
    here = parse_target("x86")
    assert isinstance(runner_for(here), LocalRunner)
    rpc = runner_for(here, address=("::1", 9190), key="pi5")
    assert isinstance(rpc, RpcRunner)
    rpc.close()


def test_the_tracker_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    here = parse_target("x86")
    assert tracker_address("[::1]:9190", "pi5", here) == ("::1", 9190)
    assert tracker_address(None, None, here) is None
    with pytest.raises(UsageError, match="give its address with --rpc HOST:PORT as well"):
        tracker_address(None, "pi5", here)
    with pytest.raises(UsageError, match="name one with --key KEY"):
        tracker_address("a:1", None, here)
    with pytest.raises(UsageError, match="'nowhere' is no address of a tracker; expected HOST:PORT"):
        tracker_address("nowhere", "pi5", here)
    monkeypatch.setattr("tesa.measure.runners.runs_here", lambda _: False)
    assert tracker_address(None, None, here, measures=False) is None
    with pytest.raises(UsageError, match=r"cannot run code for .*: give the tracker of devices that can"):
        tracker_address(None, None, here)


def test_a_device_with_another_cpu() -> None:
    here, haswell = parse_target("x86"), parse_target("x86:haswell")
    this = {"cpu": host_cpu(), "model": "Any"}
    old, unknown = {"cpu": "broadwell", "model": "Old"}, {"cpu": "Old(R) CPU @ 2 GHz", "model": "Old"}
    assert check_device(this, here, named=False) == ""
    assert check_device(old, parse_target("x86:broadwell"), named=True) == ""
    assert "the device that measures is broadwell" in check_device(old, haswell, named=True)
    with pytest.raises(UsageError, match=r"the device's CPU is broadwell, .* give --target x86:broadwell "):
        check_device(old, here, named=False)
    with pytest.raises(UsageError, match=r"CPU is Old\(R\) CPU @ 2 GHz, .* give --target x86:CPU "):
        check_device(unknown, here, named=False)
    assert check_device({"cpu": "as Linux says", "model": read_cpu().model}, here, named=False) == ""


def test_a_device_of_another_architecture_is_refused() -> None:
    board = {"cpu": "cortex-a76", "system": "Linux aarch64"}
    for named in (True, False):
        with pytest.raises(UsageError, match=r"is aarch64 \(cortex-a76\), and the target x86:haswell is x86_64"):
            check_device(board, parse_target("x86:haswell"), named=named)
    arm = replace(parse_target("x86:haswell"), triple="arm64-apple-darwin", cpu="cortex-a76")
    assert check_device(board, arm, named=True) == ""
