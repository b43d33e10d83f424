"""From a propagated Relax module to calls of kernels: layouts, fused epilogues, the passes behind them."""

from tesa.layers.anchors import Known
from tesa.layers.bind import Binding, bind
from tesa.layers.function import Lowered, WeightLayer, lower
from tesa.layers.pipeline import schedule_rest

__all__ = ["Binding", "Known", "Lowered", "WeightLayer", "bind", "lower", "schedule_rest"]
