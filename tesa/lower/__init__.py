"""From a propagated Relax module to calls of kernels: layouts, fused epilogues, the passes behind them."""

from tesa.lower.anchors import Known
from tesa.lower.bind import Binding, bind
from tesa.lower.function import Lowered, WeightLayer, lower
from tesa.lower.pipeline import schedule_rest

__all__ = ["Binding", "Known", "Lowered", "WeightLayer", "bind", "lower", "schedule_rest"]
