"""The work that is measured: a problem with its weight, apart from how it is computed and on what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property, lru_cache
from typing import Any

from tesa.attributes.statistics import Statistics, statistics_of
from tesa.attributes.zeros import zeros_of
from tesa.base.told import Untruthful, shown
from tesa.base.typed import typed
from tesa.schedules.types import Depth, FloatArray, Output, Problem, Window


@dataclass(frozen=True)
class Pattern:
    """The identity of a weight. kind is for the reader; digest identifies values and places.

    statistics say which other weights are like it; None in records from before there were any. They take no part in
    a comparison: the digest says it all.
    """

    kind: str
    sparsity: float
    digest: str
    statistics: Statistics | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Task:
    """The work that a record measures, apart from how: two equal keys are the same work. window is None for a linear
    layer; of a convolution of three axes it has the depth besides."""

    op: str
    m: int
    k: int
    n: int
    batch: int
    window: Mapping[str, Any] | None
    dtype: str
    epilogue: Mapping[str, Any]
    threads: int
    pattern: Pattern

    @staticmethod
    def of(problem: Problem, weight: FloatArray) -> Task:
        """The task of a problem with its weight (m, k)."""
        window = None if problem.window is None else plain(asdict(problem.window))
        if window is not None and problem.depth is not None:
            window["depth"] = plain(asdict(problem.depth))
        zeros = zeros_of(weight)
        known = statistics_of(zeros)
        pattern = Pattern(known.kind, known.sparsity, zeros.digest, known)
        return Task(
            problem.op, problem.m, problem.k, problem.n, problem.batch, window, _dtype(problem),
            _epilogue(problem), problem.threads, pattern,
        )  # fmt: skip

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits that identify the task."""
        return key_of(self.shape, self.pattern.digest)

    @cached_property
    def shape(self) -> str:
        """Everything but the pattern, as canonical JSON: tasks that differ in their weight alone share it."""
        return canonical_shape(self._facts())

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the statistics."""
        pattern = {"kind": self.pattern.kind, "sparsity": self.pattern.sparsity, "digest": self.pattern.digest}
        return {**self._facts(), "pattern": pattern}

    def _facts(self) -> dict[str, Any]:
        facts = {name: getattr(self, name) for name in _SHAPE}
        return {**facts, "window": plain(self.window), "epilogue": plain(self.epilogue)}


_SHAPE = tuple(item.name for item in fields(Task) if item.name != "pattern")


def canonical_shape(facts: Mapping[str, Any]) -> str:
    """The text that Task.shape is, of the facts of a task without its pattern. KeyError if one is missing."""
    return json.dumps({name: facts[name] for name in _SHAPE}, sort_keys=True)


def checked_shape(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The facts of a task without its pattern, each of its kind. KeyError if one is missing, ValueError otherwise."""
    for name in _SHAPE:
        facts[name]
    shape = typed(_Shape, facts, "task")
    sizes = (shape.m, shape.k, shape.n, shape.batch, shape.threads)
    if min(sizes) < 1 or max(sizes) > _MOST or shape.m * shape.k > _MOST:
        raise Untruthful(f"task: no layer has the sizes {shown(sizes)}")
    if shape.window is not None:
        window, depth = window_of(shape.window)
        positive = [window.height, window.width, *window.kernel, *window.stride, *window.dilation]
        padding = list(window.padding)
        if depth is not None:
            positive += [depth.size, depth.taps, depth.out, depth.stride, depth.dilation]
            padding.append(depth.before)
        if min(positive) < 1 or min(padding) < 0 or max(*positive, *padding) > _MOST:
            raise Untruthful("task.window: no convolution has these sizes")
    typed(_Epilogue, {name: shape.epilogue[name] for name in _STEPS if name in shape.epilogue}, "task.epilogue")
    return vars(shape)


def window_of(facts: Mapping[str, Any]) -> tuple[Window, Depth | None]:
    """The window of a task, and the depth where it has one. ValueError where they are none."""
    plane = {name: value for name, value in facts.items() if name != "depth"}
    depth = typed(Depth, facts["depth"], "task.window.depth") if "depth" in facts else None
    return typed(Window, plane, "task.window"), depth


_MOST = 1 << 31  # elements of a weight, and of any side
_STEPS = ("bias", "residual", "activation", "scale")


@dataclass(frozen=True)
class _Epilogue:
    """The kinds of the steps after a sum; others have names of their own."""

    bias: bool = False
    residual: bool = False
    activation: str | None = None
    scale: bool = False


@dataclass(frozen=True)
class _Shape:
    """The kinds of the facts of a task."""

    op: str
    m: int
    k: int
    n: int
    batch: int
    window: Mapping[str, Any] | None
    dtype: str
    epilogue: Mapping[str, Any]
    threads: int


def key_of(shape: str, weight_digest: str) -> str:
    """The key of the task with that Task.shape and that digest of its weight."""
    head, tail = _around(shape)
    return hashlib.sha256((head + json.dumps(weight_digest) + tail).encode()).hexdigest()[:16]


@lru_cache(maxsize=4096)
def _around(shape: str) -> tuple[str, str]:
    """The text before and after the digest in what a key is the hash of."""
    mark = "\0"
    head, tail = json.dumps({**json.loads(shape), "pattern": mark}, sort_keys=True).split(json.dumps(mark))
    return head, tail


def _dtype(problem: Problem) -> str:
    """Words for what differs from the usual only, so that older tasks keep their keys."""
    words = [problem.dtype]
    if problem.storage != "float32":
        words.append(f"weights {problem.storage}")
    if problem.arithmetic != "float32":
        words.append(f"sums {problem.arithmetic}")
    if problem.features_last:
        words.append("features last")
    if problem.alignment != 64:
        words.append(f"X at {problem.alignment} bytes")
    return ", ".join(words)


def _epilogue(problem: Problem) -> dict[str, Any]:
    """The operations after the sum. What belongs to int8 alone is left out elsewhere: float32 tasks keep their keys."""
    facts = asdict(problem.epilogue)
    if problem.dtype == "float32":
        del facts["scale"]
        return facts
    codes: dict[str, Any] = {"residual_kind": asdict(problem.residual)} if problem.residual != Output() else {}
    if problem.inner:
        codes["inner"] = [[step, asdict(kind)] for step, kind in problem.inner]
    if problem.x_pad:
        codes["x_pad"] = problem.x_pad
    return {**facts, "x_zero": problem.x_zero, "output": asdict(problem.output), **codes}


def plain(value: Any) -> Any:
    """Tuples as lists, so that a record is equal to itself after a trip through JSON."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
