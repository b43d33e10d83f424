"""tesa list, of the registries of decomposition and tuning."""

from __future__ import annotations

import json

import pytest

from tesa.cli import main


@pytest.mark.parametrize(("kind", "name"), [("policies", "cover"), ("modes", "model"), ("modes", "random")])
def test_list(kind: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert name in [entry["name"] for entry in found]
    assert all(entry["summary"] for entry in found)
    assert main(["list", kind]) == 0
    assert name in capsys.readouterr().out
