"""A plan: JSON both ways, also of one that an earlier tesa wrote, and what its layers say of themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tesa.choose.plan import Candidate, LayerPlan, Part, Plan

COVER = {"cover.32x32": 310, "0.block.rows": 8, "1.indexed.rows": 4}
TAKEN = Candidate("cover", COVER, 0.4, 0.5)
DENSE = Candidate("dense", {"rows": 8}, 1.0, 2.0, dense=True)
PARTS = (
    Part("block 32x32", 32, 2048, "a" * 16, "cover", COVER, (TAKEN, DENSE), "measured: cover 0.5 ms", "block"),
    Part("unstructured", 32, 18, "b" * 16, "cover", COVER, kernel="indexed"),
)
LAYER = LayerPlan("fc", "linear", "sparse", (64, 64, 32), 0.5, parts=PARTS, digest="c" * 16)
PLAN = Plan("x86:haswell", 1, (LAYER, LayerPlan("softmax", "softmax", "operator", (1, 10))))


def test_json_both_ways() -> None:
    assert Plan.from_json(json.loads(json.dumps(PLAN.to_json()))) == PLAN


def test_a_plan_of_before_there_were_several_parts() -> None:
    data: dict[str, Any] = json.loads(json.dumps(PLAN.to_json()))
    for layer in data["layers"]:
        del layer["digest"]
        for part in layer["parts"]:
            del part["kernel"]
    old = Plan.from_json(data).layer("fc")
    assert (old.digest, old.parts[0].kernel) == ("", "")
    assert old.digests == {"a" * 16, "b" * 16}


def test_the_log_knows_a_layer_by_its_whole_weight() -> None:
    assert LAYER.digests == {"c" * 16}


@pytest.mark.parametrize(
    ("kernels", "text"),
    [
        (("block", "indexed"), "cover: block + indexed"),
        (("fused", "fused"), "cover: fused"),
        (("", ""), "cover + cover"),
    ],
)
def test_the_kernel_in_words(kernels: tuple[str, str], text: str) -> None:
    parts = tuple(Part("p", 32, 1, "", "cover", kernel=kernel) for kernel in kernels)
    assert LayerPlan("fc", "linear", "sparse", (1, 1, 1), parts=parts).kernel == text
    assert LAYER.pattern == "block 32x32 + unstructured"


def test_the_old_name_of_a_family_is_known() -> None:
    with pytest.warns(DeprecationWarning, match="schedule is called family now"):
        assert Part("dense", 32, 4, "", "block").schedule == "block"
