"""Static quantization after training: weights of 8 to 2 bits, activations of 8, as QDQ."""

from tesa.compress.quantize.grids import METHODS
from tesa.compress.quantize.mixed import Budget
from tesa.compress.quantize.run import LayerBits, Quantized, quantize
from tesa.compress.quantize.settings import FLOAT, Settings

__all__ = ["FLOAT", "METHODS", "Budget", "LayerBits", "Quantized", "Settings", "quantize"]
