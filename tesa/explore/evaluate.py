"""The error of a configuration: by running the whole pruned model on the data, once for each."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tesa.compiler import compile_model
from tesa.compress.metric import Metric
from tesa.compress.samples import Outputs, Samples, relative_error
from tesa.errors import TesaError, UsageError
from tesa.explore.choices import Config, key_of
from tesa.explore.journal import Journal
from tesa.explore.variants import Variants
from tesa.runtime import load

EVALUATORS = ("onnxruntime", "compiled")

_TIE = 1e-3  # of the relative error: decides between configurations with one score


@dataclass(frozen=True)
class Evaluation:
    """error: of the outputs, relative. score: of the metric; drop: what of the dense score is lost. energy: what is to
    be small, the drop where there is a metric, else the error."""

    error: float
    score: float | None = None
    drop: float | None = None

    @property
    def energy(self) -> float:
        """The energy that a search makes small."""
        return self.error if self.drop is None else self.drop + _TIE * self.error


class Evaluator:
    """Evaluates configurations, each once: what the journal knows is not run again.

    engine: "onnxruntime" runs the pruned model as a dense one; "compiled" compiles it first, with kernels for its
    zeros, as SparTA does. count, seconds: of evaluations that were run, and what they took.
    """

    def __init__(
        self, variants: Variants, samples: Samples, metric: Metric | None, journal: Journal,
        engine: str = "onnxruntime",
        shapes: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        if engine not in EVALUATORS:
            raise UsageError(f"there is no evaluator {engine!r}; there are {', '.join(EVALUATORS)}")
        self.variants, self.samples, self.metric, self.journal = variants, samples, metric, journal
        self._shapes = shapes
        self._run: Callable[[Any], Outputs] = self._compiled if engine == "compiled" else self._plain
        self.wanted = self._plain(variants.work.proto)
        self.dense_score = None if metric is None else metric(self.wanted, samples.extra)
        self.count, self.seconds = 0, 0.0

    def __call__(self, config: Config) -> Evaluation:
        """The evaluation of a configuration. One that cannot be run has an infinite error, and its reason in the log.

        Errors of the metric end the exploration: UsageError.
        """
        key = key_of(config)
        known = self.journal.find(key)
        if known is None:
            known = self._evaluated(config)
            self.journal.keep(key, known)
        score = known.get("score")
        if self.metric is not None and score is None and math.isfinite(known["error"]):
            known = self._evaluated(config)
            self.journal.keep(key, known)
            score = known.get("score")
        drop = None
        if self.metric is not None:
            drop = math.inf if score is None or self.dense_score is None else self.dense_score - score
        return Evaluation(float(known["error"]), score, drop)

    def _evaluated(self, config: Config) -> Mapping[str, Any]:
        start = time.perf_counter()
        row: dict[str, Any] = {"config": {name: str(choice) for name, choice in config.items()}}
        try:
            found = self._run(self.variants.whole(config))
        except TesaError as error:
            row |= {"error": math.inf, "failed": str(error)}
        else:
            row["error"] = relative_error(found, self.wanted)
            if self.metric is not None and math.isfinite(row["error"]):
                row["score"] = self.metric(found, self.samples.extra)
        row["seconds"] = time.perf_counter() - start
        self.count, self.seconds = self.count + 1, self.seconds + row["seconds"]
        return row

    def _plain(self, model: Any) -> Outputs:
        return self.samples.run(model, name="the pruned model")

    def _compiled(self, model: Any) -> Outputs:
        with TemporaryDirectory(prefix="tesa-") as folder:
            path = Path(folder) / "model.so"
            compile_model(model, output=path, shapes=self._shapes, measure=False)
            return self.samples.through(load(path))


def subject_of(variants: Variants, samples: Samples, metric: Metric | None, engine: str) -> str:
    """16 hexadecimal digits of all that an evaluation depends on besides the configuration."""
    digest = hashlib.sha256(variants.work.proto.SerializeToString(deterministic=True))
    for feed in samples.feeds:
        for name in sorted(feed):
            digest.update(name.encode() + feed[name].tobytes())
    for name, array in sorted(samples.extra.items()):
        digest.update(name.encode() + array.tobytes())
    text = "" if metric is None else metric.source
    digest.update(f"{text}|{engine}|{bool(variants.inputs)}".encode())
    return digest.hexdigest()[:16]


__all__ = ["EVALUATORS", "Evaluation", "Evaluator", "subject_of"]
