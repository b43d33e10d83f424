"""Answers before anything is pruned or compiled: what each layer of a model costs dense and sparse, by a cost table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from tesa.analyze.breakeven import BreakEven, break_even
from tesa.analyze.imposition import Rules, channel_masks, check_layers, imposed_on
from tesa.attributes.impose import Imposed
from tesa.attributes.impose import impose as impose_on
from tesa.attributes.patterns import classify
from tesa.base.display import Displayed
from tesa.base.numbers import whole
from tesa.base.progress import Event, Progress, automatic, shows_progress, silent
from tesa.choose.integer import IntegerContest
from tesa.choose.pick import GAIN
from tesa.costs import store
from tesa.costs.prediction import Prediction
from tesa.costs.table import CostTable
from tesa.layers.codes_layers import Integer
from tesa.layers.network import to_network
from tesa.schedules.types import FloatArray, Problem
from tesa.targets.target import Target, parse_target


@dataclass(frozen=True)
class AnalysedLayer:
    """One layer. shape: (m, k, n), before channels are imposed; pattern, sparsity: of the weight that `sparse` is for,
    imposed zeros included.

    dense: the layer's dense self; sparse: the kernel that would be chosen, which is the dense one where nothing is
    gained; forms: their families. sparse is None where no weight is left. imposed: what was imposed, "" for nothing.
    """

    layer: str
    op: str
    shape: tuple[int, int, int]
    pattern: str
    sparsity: float
    imposed: str
    dense: Prediction
    dense_form: str
    sparse: Prediction | None
    sparse_form: str
    break_even: BreakEven | None

    @property
    def saved_ms(self) -> float:
        """Milliseconds that the zeros save."""
        return self.dense.ms - (self.sparse.ms if self.sparse else 0.0)

    @property
    def gain(self) -> float | None:
        """The factor by which the layer becomes faster; None where it is gone."""
        return self.dense.ms / self.sparse.ms if self.sparse else None

    @property
    def saved_range_ms(self) -> tuple[float, float]:
        """The range of saved_ms: from the dense self at its best against the sparse kernel at its worst to the reverse.

        Nothing where the dense self is chosen: then both are one kernel.
        """
        if self.sparse is None:
            return self.dense.low_ms, self.dense.high_ms
        if self.same:
            return self.saved_ms, self.saved_ms
        return self.dense.low_ms - self.sparse.high_ms, self.dense.high_ms - self.sparse.low_ms

    @property
    def gain_range(self) -> tuple[float, float] | None:
        """The range of the gain, in the same way; None where the layer is gone."""
        if self.sparse is None or self.gain is None:
            return None
        if self.same:
            return self.gain, self.gain
        return self.dense.low_ms / self.sparse.high_ms, self.dense.high_ms / self.sparse.low_ms

    @property
    def same(self) -> bool:
        """True where the zeros change nothing: the kernel that would be chosen is the dense one."""
        return self.sparse == self.dense and self.sparse_form == self.dense_form


@dataclass(frozen=True)
class Analysis(Displayed):
    """A model by prediction. table: which cost table it is from, "" for none: then times are bare estimates.

    dense_ms, sparse_ms: (expected, low, high) of all weight layers together; the bounds add up the layers', as if all
    were wrong in the same direction. notes: what is not in the sums.
    """

    source: str
    target: str
    threads: int
    table: str
    layers: tuple[AnalysedLayer, ...]
    dense_ms: tuple[float, float, float]
    sparse_ms: tuple[float, float, float]
    notes: tuple[str, ...] = field(default=())

    @property
    def gpu(self) -> bool:
        """True for a GPU, whose times are those of the static model."""
        return parse_target(self.target).gpu is not None

    def layer(self, name: str) -> AnalysedLayer:
        """The layer of that name. KeyError if there is none."""
        return {layer.layer: layer for layer in self.layers}[name]

    def to_json(self) -> dict[str, Any]:
        """Plain data for json.dump, with what each layer saves and gains."""
        data = asdict(self)
        for row, layer in zip(data["layers"], self.layers, strict=True):
            row["saved_ms"], row["gain"] = layer.saved_ms, layer.gain
            row["saved_range_ms"], row["gain_range"] = layer.saved_range_ms, layer.gain_range
        return data


@shows_progress
def analyze_model(
    model: str | Path | Any,
    *,
    target: str | Target | None = None,
    threads: int = 1,
    impose: Sequence[str] = (),
    shapes: Mapping[str, Any] | None = None,
    masks: Any = None,
    flush_denormals: bool = False,
    table: CostTable | str | Path | None = None,
    progress: Progress | None = automatic,
) -> Analysis:
    """Predict the layers of a model for a target, with the zeros it has or with zeros that are imposed on it.

    impose: patterns such as "0.9:block=4x4" for all layers, or "NAME=0.9" for one, which goes before. The smallest
    weights, or blocks of them, become zero on a copy, in the place of the zeros that the layer has. Each layer is asked
    for itself; only whole channels come on top of the zeros that are there and are propagated, so that what consumes
    them becomes smaller too. A pattern for all layers leaves out those that it has no meaning for: blocks larger than
    the weight, and of depthwise filters everything but single taps. Decompositions, which may be faster still, are not
    tried.

    table: a CostTable or a file of them; by default the one of this target and number of threads, and where there is
    none the families' bare estimates, of a GPU the static model of time. Nothing is generated, compiled or measured.

    Errors as import_onnx; UsageError for a pattern or a layer that does not exist, and for an unusable table.

    >>> from importlib.resources import files
    >>> path = str(files("tesa.models") / "digits.onnx")
    >>> found = analyze_model(path, target="x86:haswell", impose=["0.9:block=4x1"])
    >>> found.layer("block1.pointwise").pattern, found.layer("block1.pointwise").shape
    ('block 4x1', (64, 32, 1024))
    """
    progress = progress or silent
    threads = whole("threads", threads)
    code, rules = parse_target(target), Rules.parse(impose)
    threads = threads if code.gpu is None else 1
    known = table if isinstance(table, CostTable) else None if code.gpu else store.load(code, threads, table)
    costs = CostTable(code.cpu, "", code.name, threads) if known is None else known
    progress(Event("import", 0, 1, str(model) if isinstance(model, str | Path) else "model"))
    integer = IntegerContest(code, known, measure=False).decide
    given, notes, source = _lowered(model, threads, shapes, masks, flush_denormals, integer, code.gpu is not None)
    check_layers(rules, [name for name, _, _ in given])
    found = {name: imposed_on(rules, name, problem) for name, problem, _ in given}
    wanted = {name: imposed for name, imposed in found.items() if imposed is not None}
    without = [name for name, imposed in found.items() if imposed is None and rules.of(name) is not None]
    made = given
    channels = {name: imposed for name, imposed in wanted.items() if imposed.imposition.propagates}
    if channels:
        cut = channel_masks(model, channels, shapes, masks)
        made, more, _ = _lowered(model, threads, shapes, cut, flush_denormals, integer, code.gpu is not None)
        notes = tuple(dict.fromkeys((*notes, *more)))
    progress(Event("import", 1, 1))
    now = {
        name: (problem, weight if name in channels or name not in wanted else impose_on(weight, wanted[name]))
        for name, problem, weight in made
    }
    rows = []
    solve = lru_cache(maxsize=None)(lambda problem, like: break_even(costs, problem, like))
    for index, layer in enumerate(given):
        progress(Event("predict", index, len(given), layer[0]))
        rows.append(_analysed(costs, layer[0], layer, now.get(layer[0]), wanted.get(layer[0]), solve))
    progress(Event("predict", len(given), len(given)))
    notes = (*notes, *_senseless(rules, [row for row in rows if row.layer in without]))
    dense, sparse = [row.dense for row in rows], [row.sparse for row in rows if row.sparse is not None]
    said = "" if known is None else known.described
    return Analysis(source, code.name, threads, said, tuple(rows), _sum(dense), _sum(sparse), notes)


_Layer = tuple[str, Problem, FloatArray]
_Solve = Callable[[Problem, Imposed], BreakEven]


def _lowered(
    model: Any, threads: int, shapes: Any, masks: Any, flush: bool, integer: Integer, gpu: bool
) -> tuple[list[_Layer], tuple[str, ...], str]:
    """The weight layers as compile makes them, remarks, and the name of the model."""
    network = to_network(
        model, threads=threads, shapes=shapes, masks=masks, flush_denormals=flush, integer=integer, codes_first=gpu
    )  # fmt: skip
    prepared = network.prepared
    served = {layer.source for layer in network.lowered.layers}
    left = [facts.layer for var, facts in prepared.attributed.weights.items() if var not in served]
    notes = [f"{layer}: no kernel family for its operator; not predicted" for layer in left]
    layers = [(layer.name, layer.problem, layer.weight) for layer in network.layers]
    return layers, (*prepared.notes, *notes), prepared.imported.source


def _analysed(
    table: CostTable,
    name: str,
    given: _Layer,
    now: tuple[Problem, FloatArray] | None,
    imposed: Imposed | None,
    solve: _Solve,
) -> AnalysedLayer:
    """One layer. given: as it is; now: with what is imposed, None where nothing is left of it."""
    _, before, weight = given
    ranked = table.rank_plain(before, weight)
    dense = next((row for row in ranked if row.dense), ranked[0])
    sparse, pattern, sparsity = None, "empty", 1.0
    like = imposed or Imposed.like(classify(weight))
    if now is not None:
        problem, kept = now
        found = classify(kept)
        pattern, sparsity = str(found), found.sparsity
        ranked = table.rank_plain(problem, kept)
        sparse = ranked[0]
        own = next((row for row in ranked if row.dense), None)
        if own is not None and sparse.prediction.ms > (1 - GAIN) * own.prediction.ms:
            sparse = own
    return AnalysedLayer(
        layer=name,
        op=before.op,
        shape=(before.m, before.k, before.n),
        pattern=pattern,
        sparsity=float(sparsity),
        imposed="" if imposed is None else str(imposed),
        dense=dense.prediction,
        dense_form=dense.option[0],
        sparse=None if sparse is None else sparse.prediction,
        sparse_form="" if sparse is None else sparse.option[0],
        # of the kind alone: layers that differ only in their share of zeros break even at the same one
        break_even=solve(before, like.alike((0.5,))[0] if like.imposition.share is None else like),
    )


def _senseless(rules: Rules, rows: Sequence[AnalysedLayer]) -> list[str]:
    """Remarks on layers for which a pattern for all has no meaning: which, and what is told of them instead."""
    by: dict[str, list[str]] = {}
    for row in rows:
        by.setdefault("" if row.break_even is None else row.break_even.pattern, []).append(row.layer)
    return [
        f"{rules.every} has no meaning for {', '.join(names)}: nothing is imposed there"
        + (f', and "pays from" is of the pattern {pattern}' if pattern else "")
        for pattern, names in by.items()
    ]


def _sum(predictions: Sequence[Prediction]) -> tuple[float, float, float]:
    ms, low, high = (float(sum(getattr(p, name) for p in predictions)) for name in ("ms", "low_ms", "high_ms"))
    return ms, low, high
