"""Makes networks sparse: prunes the weights of an ONNX file, and repairs what that costs on data."""

from tesa.compress.importance import importance, importances
from tesa.compress.prune import prune
from tesa.compress.quantize import Quantized, quantize
from tesa.compress.result import Pruned, PrunedLayer

__all__ = ["Pruned", "PrunedLayer", "Quantized", "importance", "importances", "prune", "quantize"]
