"""The choice for a layer as its plan keeps it: the parts of its weight, and what competed."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tesa.attributes.patterns import digest
from tesa.choose.pick import Decision
from tesa.choose.plan import Candidate, Part
from tesa.decompose import describe_pieces
from tesa.decompose.candidates import Option
from tesa.layers.layer import Layer
from tesa.records.log import Record
from tesa.schedules.types import Problem, config_key


def make_parts(candidates: Sequence[Candidate], decision: Decision, layer: Layer) -> tuple[Part, ...]:
    """The decision as the plan keeps it: a part for each piece of a decomposition, else one for the whole weight.

    The first has the candidates and the reason.
    """
    option: dict[str, Any] = {"family": decision.family, "config": dict(decision.config)}
    if layer.problem.storage != "float32":
        option["storage"] = layer.problem.storage
    if layer.problem.arithmetic != "float32":
        option["arithmetic"] = layer.problem.arithmetic
    first: dict[str, Any] = {"candidates": tuple(candidates), "reason": decision.reason}
    problem, weight = layer.problem, layer.weight
    pieces = describe_pieces(problem, weight, decision.family, decision.config)
    if not pieces:
        found = layer.statistics
        return (Part(found.kind, _bits(problem), found.nonzeros, layer.digest, **option, **first),)
    return tuple(
        Part(
            pattern=found.piece.pattern,
            bits=found.piece.bits if problem.dtype == "mixed" else _bits(problem),
            nonzeros=found.piece.nonzeros,
            digest=digest(found.piece.weight),
            kernel=found.family,
            **option,
            **(first if number == 0 else {}),
        )
        for number, found in enumerate(pieces)
    )


def candidate_rows(
    options: Sequence[Option],
    records: Mapping[str, Record],
    predicted: Mapping[str, float],
    dense: Collection[str],
    sizes: Mapping[str, int],
) -> list[Candidate]:
    """The options that competed, for the plan, each with its times or why it has none. sizes: of those built, bytes."""
    rows = []
    for name, config in options:
        key = config_key(name, config)
        record = records.get(key)
        measured = record.median_ms if record is not None and record.ok else None
        note = record.error if record is not None and not record.ok else "" if record is not None else "not measured"
        rows.append(Candidate(name, dict(config), predicted[key], measured, note, key in dense, sizes.get(key)))
    return rows


def _bits(problem: Problem) -> int:
    """The bits of a stored weight."""
    return 8 if problem.dtype == "int8" else 32 if problem.storage == "float32" else 16
