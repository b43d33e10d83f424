"""Fine-tuning under masks: pruned weights stay 0, the best epoch is kept, patterns may grow from epoch to epoch."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from tesa.errors import UsageError
from tesa.torch.masks import Masks


class FineTuning:
    """Keeps the masks of a module while it is trained, and its best state. Larger scores are better.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(8, 4))
    >>> optimizer = torch.optim.SGD(net.parameters(), 0.1)
    >>> with FineTuning(net, optimizer, Masks.impose(net, "0.5")) as run:
    ...     for epoch in range(2):
    ...         torch.autograd.backward(net(torch.ones(1, 8)).sum())
    ...         optimizer.step()
    ...         _ = run.epoch(score=-epoch)
    >>> int((net[0].weight == 0).sum()), run.best_epoch
    (16, 0)

    masks: by default those that the module has. On leaving the block the state of the best epoch comes back.
    """

    def __init__(self, module: Any, optimizer: Any, masks: Masks | None = None) -> None:
        self.module, self.optimizer = module, optimizer
        self.masks = Masks.of(module) if masks is None else masks
        self.best_epoch, self.best_score, self.epochs = -1, -math.inf, 0
        self._state: Any = None
        self._release = self.masks.follow(optimizer)

    def __enter__(self) -> FineTuning:
        self.masks.apply()
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._release()
        if kind is None:
            self.restore()

    def prune(self, pattern: str, layers: Mapping[str, str | None] | None = None) -> Masks:
        """Impose a pattern from now on, with more zeros than before: once an epoch, for pruning step by step.

        What was noted as the best before is forgotten: it was another pattern's.
        """
        self._release()
        self.masks = Masks.impose(self.module, pattern, layers)
        self._release = self.masks.follow(self.optimizer)
        self.best_epoch, self.best_score, self._state = -1, -math.inf, None
        return self.masks

    def epoch(self, score: float) -> bool:
        """Note the end of an epoch and how good the module is; True if it was never better. UsageError for NaN."""
        score = float(score)
        if math.isnan(score):
            raise UsageError(f"the score of epoch {self.epochs} is NaN; give an accuracy, or minus a loss")
        better = score > self.best_score
        if better:
            self.best_epoch, self.best_score = self.epochs, score
            self._state = copy.deepcopy(self.module.state_dict())
        self.epochs += 1
        return better

    def restore(self) -> None:
        """Give the module the state of its best epoch, if there was one."""
        if self._state is not None:
            self.module.load_state_dict(self._state)
        self.masks.apply()
