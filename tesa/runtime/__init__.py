"""Runs compiled models: load, call, time, verify. Needs TVM's runtime, not its compiler."""

from tesa.runtime.bench import BenchResult, LayerTime, Times, bench, random_feeds
from tesa.runtime.manifest import TensorInfo
from tesa.runtime.model import Model
from tesa.runtime.opening import load
from tesa.runtime.verify import Comparison, VerifyResult, verify

__all__ = [
    "BenchResult",
    "Comparison",
    "LayerTime",
    "Model",
    "TensorInfo",
    "Times",
    "VerifyResult",
    "bench",
    "load",
    "random_feeds",
    "verify",
]
