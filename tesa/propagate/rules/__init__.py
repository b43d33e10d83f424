"""The rules that come with tesa, one file for each family of operators. Importing this package registers them."""

from tesa.propagate.rules import conv, elementwise, matmul, movement, normalize, pool, quantize, reduce

__all__ = ["conv", "elementwise", "matmul", "movement", "normalize", "pool", "quantize", "reduce"]
