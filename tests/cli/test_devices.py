"""tesa devices, as a user types it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tesa.cli import devices
from tesa.cli.output import emit
from tesa.cli.verb import Outcome
from tesa.errors import UsageError
from tests.measure.remote.park import Park, free_port
from tests.support import PATIENCE_S


def outcome(words: list[str]) -> Outcome:
    """What the verb finds; the words are those behind `tesa devices`. A device may take its time to answer."""
    from argparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    devices.VERB.arguments(parser)
    return devices.VERB.run(parser.parse_args([*words, "--timeout", f"{PATIENCE_S:g}"]))


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that served the test before is free again in time, however busy the machine is."""
    monkeypatch.setattr("tesa.measure.remote.health._GRACE_S", PATIENCE_S)


@pytest.fixture(scope="module")
def park(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Park]:
    folder = tmp_path_factory.mktemp("park")
    park = Park(folder)
    try:
        park.server("good")
        (folder / "wrong").touch()
        park.faulty(folder / "wrong", "bad")
        park.await_servers(1, "good")
        park.await_servers(1, "bad")
        yield park
    finally:
        park.close()


def shown(found: Outcome, capsys: pytest.CaptureFixture[str], *, as_json: bool) -> str:
    capsys.readouterr()
    emit(found, as_json=as_json)
    return capsys.readouterr().out


def test_a_sound_device(park: Park, capsys: pytest.CaptureFixture[str]) -> None:
    found = outcome(["--rpc", f"127.0.0.1:{park.port}", "--key", "good"])
    assert found.failure == ""
    data = json.loads(shown(found, capsys, as_json=True))
    assert data["ok"] is True
    (device,) = data["devices"]
    assert (device["key"], device["state"], device["address"]["host"]) == ("good", "free", "127.0.0.1")
    assert device["cores"] > 0
    assert device["latency_ms"] > 0
    text = shown(found, capsys, as_json=False)
    assert [word for word in ("good", "free", device["cpu"], "tvm 0.27") if word not in text] == []


def test_a_broken_device_is_shown_with_its_reason(park: Park, capsys: pytest.CaptureFixture[str]) -> None:
    found = outcome(["--rpc", f"127.0.0.1:{park.port}"])
    assert "(bad) is broken: wrong numbers" in found.failure
    assert json.loads(shown(found, capsys, as_json=True))["ok"] is False
    text = shown(found, capsys, as_json=False)
    assert [word for word in ("good", "bad", "free", "broken", "wrong numbers") if word not in text] == []


@pytest.mark.slow
def test_a_key_that_nobody_has(park: Park) -> None:
    found = outcome(["--rpc", f"127.0.0.1:{park.port}", "--key", "nobody"])
    assert found.data == {"ok": False, "devices": []}
    assert list(found.view()) == []
    assert "no device with key 'nobody'" in found.failure
    assert "tesa.measure.remote.server --tracker" in found.failure


def test_no_tracker_and_no_compiler(park: Park, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot reach an RPC tracker"):
        outcome(["--rpc", f"127.0.0.1:{free_port()}"])
    with pytest.raises(UsageError, match="no command 'nonesuch'"):
        outcome(["--rpc", f"127.0.0.1:{park.port}", "--cross-compiler", "nonesuch"])


@pytest.mark.parametrize("text", ["localhost", ":9190", "host:port", "host:0", "host:70000"])
def test_an_address_that_is_none(text: str) -> None:
    from argparse import ArgumentError

    with pytest.raises(ArgumentError, match="is not HOST:PORT"):
        outcome(["--rpc", text])
