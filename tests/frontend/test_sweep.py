"""Every operator that can be imported, at every opset from 7 on where it changed, over its attributes and types.

Each operator is compiled by default; a part of the nodes (mark `slow`) and all of them (mark `long`) where there is
time. What differs from onnxruntime on purpose, or cannot be compared with it, is in EXCEPTIONS with a reason.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from types import ModuleType

import onnx
import pytest
from tvm.relax.frontend.onnx import onnx_frontend

from tesa.frontend.registry import find_converter

from .sweep import binary, movement, products, reductions, resizes, unary, windows
from .sweep.case import Case
from .sweep.judge import failures

FAMILIES = {m.__name__.rpartition(".")[2]: m for m in (binary, movement, products, reductions, resizes, unary, windows)}
SHARE = 6  # one in so many nodes, and the first of each operator, is the part

NO_DILATION = "onnxruntime pads as if the window were not dilated; ONNX says otherwise, and infers our shape"
NO_MAXIMUM = "RoiAlign by the largest sample is refused in plain words"
SYMMETRIC = "coordinate_transformation_mode=half_pixel_symmetric"
A_TIE = "the place is a whole number but for the last bit of float32"
EXCEPTIONS: dict[str, str] = {
    **{f"Resize-19(float32[1, 2, 4, 5], -, {sizes}) mode=nearest, {SYMMETRIC}, nearest_mode=floor": A_TIE
       for sizes in ("-, int64:[1, 2, 9, 3]", "float32:[1.0, 1.0, 0.5, 0.6000000238418579]")},
    "Sign-9(float16": "the sign of no number is 0 in onnxruntime for float16, and no number for other types",
    "Sign-13(float16": "the sign of no number is 0 in onnxruntime for float16, and no number for other types",
    **{f"MaxPool-{n}(float32[2, 3, 7, 8]) kernel_shape=[3, 3], auto_pad=SAME_UPPER, dilations": NO_DILATION
       for n in (10, 11, 12, 22)},
    **{f"RoiAlign-{n}(float32[2, 3, 8, 9], float32[4, 4], int64[4]) {attrs}mode=max": NO_MAXIMUM for n in (10, 16, 22)
       for attrs in ("", "output_height=2, output_width=3, ",
                     "output_height=2, output_width=2, sampling_ratio=2, spatial_scale=0.5, ")},
}  # fmt: skip
"""The beginning of a case's name, and why it is refused or differs."""

SHAPES = "its result has another shape for other data, which is refused"
SEQUENCES = "sequences and optional values are no tensors: what folding leaves of them is refused"
TESTED = "has tests of its own"
ELSEWHERE: dict[str, str] = {
    **dict.fromkeys(("Compress", "NonMaxSuppression", "NonZero", "Unique"), SHAPES),
    **dict.fromkeys((
        "ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceAt",
        "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SplitToSequence",
    ), SEQUENCES),
    "Constant": "is no operator but a number",
    **dict.fromkeys(("Attention", "BitCast"), TESTED),
}  # fmt: skip
"""Operators without a case here, and why."""


def sample(cases: Iterator[Case]) -> list[Case]:
    """A fixed part: the first case of each operator and opset, and others by their names."""
    seen: set[str] = set()
    found = []
    for case in cases:
        if case.op not in seen or zlib.crc32(case.name.encode()) % SHARE == 0:
            found.append(case)
        seen.add(case.op)
    return found


def newest(cases: Iterator[Case]) -> list[Case]:
    """The first case of each operator, at the last opset that it has."""
    found: dict[str, Case] = {}
    for case in cases:
        if case.op not in found or case.opset > found[case.op].opset:
            found[case.op] = case
    return list(found.values())


def unexpected(cases: list[Case]) -> dict[str, str]:
    """What is wrong and no exception, and exceptions that are none."""
    wrong = failures(cases)
    known = {case.name for case in cases if case.name.startswith(tuple(EXCEPTIONS))}
    wrong |= dict.fromkeys(known - wrong.keys(), "is an exception and right")
    return {name: why for name, why in wrong.items() if name not in known or why.startswith("is an exception")}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_operator_at_its_newest(family: str) -> None:
    assert not unexpected(newest(FAMILIES[family].cases()))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_part_of_the_sweep(family: str) -> None:
    assert not unexpected(sample(FAMILIES[family].cases()))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_the_whole_sweep(family: str) -> None:
    assert not unexpected(list(FAMILIES[family].cases()))


def _swept(module: ModuleType) -> set[str]:
    return {case.op for case in module.cases()}


def test_every_operator_is_swept() -> None:
    swept = set().union(*map(_swept, FAMILIES.values()))
    names = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain and not schema.deprecated}
    known = {name for name in names if find_converter(name) or name in onnx_frontend._get_convert_map()}
    assert known - swept == set(ELSEWHERE)
