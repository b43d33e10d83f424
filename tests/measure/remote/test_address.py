"""HOST:PORT as a user writes it, for every verb that takes it."""

from __future__ import annotations

from argparse import ArgumentTypeError

import pytest

from tesa.cli.devices import address
from tesa.errors import UsageError
from tesa.measure.remote.address import split_address
from tesa.tune.model import tune_model

RIGHT = [("a.b:1", ("a.b", 1)), ("[::1]:65535", ("::1", 65535)), ("[fe80::1%eth0]:9", ("fe80::1%eth0", 9))]
WRONG = ["", "host", ":9190", "[]:9190", "host:", "host:0", "host:65536", "a:9x", "a:\u0661", "::1:9190", "[::1:9"]


@pytest.mark.parametrize(("text", "found"), RIGHT)
def test_host_and_port(text: str, found: tuple[str, int]) -> None:
    assert split_address(text) == address(text) == found


@pytest.mark.parametrize("text", WRONG)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is not HOST:PORT"):
        address(text)
    with pytest.raises(UsageError, match="is no address of a tracker; expected HOST:PORT"):
        tune_model("no.onnx", rpc=text, key="a")
