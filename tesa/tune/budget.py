"""The number of measurements that a job may make, and the layer that gets the next ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from tesa.errors import UsageError

FLOOR = 0.5
"""Share of its trials that a layer gets whatever it takes of the model's time. The rest goes where it pays most."""


@dataclass(frozen=True)
class Budget:
    """A limit for a tuning job. trials: measurements of a layer, on average, those in the log included; None for all.

    minutes: of the whole job, building and the last comparison included; None for no limit.
    """

    trials: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is no budget."""
        if self.trials is not None and self.trials < 1:
            raise UsageError(f"trials must be at least 1, got {self.trials}")
        if self.minutes is not None and not 0 < self.minutes < float("inf"):
            raise UsageError(f"minutes must be a number above 0, got {self.minutes}")


@dataclass(frozen=True)
class Share:
    """The facts about a layer that decide whether it gets the next trials.

    done: measurements that it has or is about to get; open: candidates left. cost_ms: of all the model's layers with
    this kernel together, by the best that is known. stale: turns since it became faster by more than the noise.
    """

    done: int
    open: int
    cost_ms: float
    stale: int


def next_layer(shares: Sequence[Share], trials: int | None) -> int | None:
    """The layer whose turn it is; None where the budget is used up or nothing is left to measure.

    First every layer gets its floor. Then it is the one that takes most of the model's time and has not stood still:
    expected gains, without a gradient, which a few noisy measurements do not give.

    >>> next_layer([Share(32, 9, 1.0, 0), Share(32, 9, 3.0, 0), Share(32, 9, 4.0, 1)], 64)
    1
    """
    free = [i for i, share in enumerate(shares) if share.open > 0]
    if not free:
        return None
    if trials is not None:
        if sum(share.done for share in shares) >= trials * len(shares):
            return None
        poor = [i for i in free if shares[i].done < FLOOR * trials]
        if poor:
            return min(poor, key=lambda i: shares[i].done)
    return max(free, key=lambda i: (shares[i].cost_ms / (1 + shares[i].stale), -i))
