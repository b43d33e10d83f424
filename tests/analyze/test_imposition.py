"""The patterns that a user imposes, for all layers and for one."""

from __future__ import annotations

import pytest

from tesa.analyze.imposition import Rules
from tesa.errors import UsageError


def test_rules_for_all_and_for_one() -> None:
    rules = Rules.parse(["0.9:block=4x4", "conv1=0.5", "a=b=0.8:block=8x1"])
    assert str(rules.of("anything")) == "0.9:block=4x4"
    assert str(rules.of("conv1")) == "0.5:unstructured"
    assert str(rules.of("a=b")) == "0.8:block=8x1"
    assert Rules.parse([]) == Rules(None, {})
    with pytest.raises(UsageError, match="two patterns are imposed on all layers"):
        Rules.parse(["0.9", "0.8"])
    with pytest.raises(UsageError, match="two patterns are imposed on conv1"):
        Rules.parse(["conv1=0.9", "conv1=0.8"])
    with pytest.raises(UsageError, match=r"NAME=0.9:block=4x4"):
        Rules.parse(["conv1=most"])
