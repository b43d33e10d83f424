"""The gain of a layer's kernel over its dense self, read off the candidates in a plan."""

from dataclasses import dataclass

from tesa.choose.plan import Candidate, LayerPlan, Part


@dataclass(frozen=True)
class LayerTimes:
    """Two times of a layer. chosen_ms: its kernels together; dense_ms: the best dense candidate; None if unknown.

    measured is False where a time is only the estimate.
    """

    chosen_ms: float | None
    dense_ms: float | None
    measured: bool

    @property
    def speedup(self) -> float | None:
        """dense_ms / chosen_ms."""
        if not self.chosen_ms or self.dense_ms is None:
            return None
        return self.dense_ms / self.chosen_ms


def layer_times(layer: LayerPlan) -> LayerTimes:
    """The times of a layer. Measured and estimated times are never compared with each other.

    Candidates stand with a part: of a decomposition with the first one only, and are for all of it.

    >>> fast, slow = Candidate("indexed", measured_ms=0.5), Candidate("dense", measured_ms=2.0, dense=True)
    >>> part = Part("unstructured", 32, 10, "", "indexed", candidates=(fast, slow))
    >>> layer_times(LayerPlan("fc", "linear", "sparse", (8, 8, 1), parts=(part,))).speedup
    4.0
    """
    parts = [part for number, part in enumerate(layer.parts) if number == 0 or not part.kernel]
    measured = bool(parts) and all(_time(chosen(part), True) is not None for part in parts)
    total = _sum([_time(chosen(part), measured) for part in parts])
    dense = _sum([_best_dense(part, measured) for part in parts])
    return LayerTimes(total, dense, measured)


def chosen(part: Part) -> Candidate | None:
    """The candidate that the plan took for the part; None if the plan does not list it."""
    wanted = part.family, dict(part.config)
    return next((found for found in part.candidates if (found.family, dict(found.config)) == wanted), None)


def _time(candidate: Candidate | None, measured: bool) -> float | None:
    return None if candidate is None else candidate.measured_ms if measured else candidate.predicted_ms


def _best_dense(part: Part, measured: bool) -> float | None:
    times = [_time(candidate, measured) for candidate in part.candidates if candidate.dense]
    return min((time for time in times if time is not None), default=None)


def _sum(times: list[float | None]) -> float | None:
    known = [time for time in times if time is not None]
    return sum(known) if known and len(known) == len(times) else None
