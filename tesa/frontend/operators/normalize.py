"""Batch, layer and RMS norms, alone and fused with the addition before them."""

from typing import Any

import numpy as np
from tvm import relax

from tesa.errors import UnsupportedError
from tesa.frontend.expressions import at, constant, constant_value, static_shape
from tesa.frontend.registry import imports


@imports("BatchNormalization")
def batch_norm(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """x * scale + shift, with the constants of inference."""
    arrays = [constant_value(x) for x in inputs[1:5]]
    if attrs.get("training_mode", 0):
        raise UnsupportedError("BatchNormalization in training mode normalises by its input; export for inference")
    if any(a is None for a in arrays):
        return None
    gamma, beta, mean, variance = (np.asarray(a, np.float64) for a in arrays)
    factor = gamma / np.sqrt(variance + attrs.get("epsilon", 1e-5))
    view = (-1,) + (1,) * (len(static_shape(inputs[0])) - 2)
    scale, shift = (v.reshape(view).astype(np.float32) for v in (factor, beta - mean * factor))
    return relax.op.add(relax.op.multiply(inputs[0], constant(scale)), constant(shift))


@imports("LayerNormalization")
def layer_norm(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """relax.nn.layer_norm over the axes from `axis` on; mean and 1 / deviation too, where they are asked for."""
    x, gamma, epsilon = inputs[0], inputs[1], attrs.get("epsilon", 1e-5)
    rank, emit = len(static_shape(x)), bb.normalize
    axes = list(range(int(attrs.get("axis", -1)) % rank, rank))
    wide, beta = static_shape(x)[axes[0] :], at(inputs, 2)
    if beta is None:
        beta = constant(np.zeros(wide, str(gamma.ty.dtype)))
    gamma, beta = (_widened(bb, y, wide) for y in (gamma, beta))
    norm = relax.op.nn.layer_norm(x, gamma, beta, axes, epsilon)
    if attrs["tvm_custom"]["num_outputs"] == 1:
        return norm
    variance = emit(relax.op.variance(x, axes, True))
    inverse = emit(relax.op.rsqrt(emit(relax.op.add(variance, relax.const(epsilon, str(x.ty.dtype))))))
    return relax.Tuple([emit(norm), emit(relax.op.mean(x, axes, True)), inverse])


def _widened(bb: Any, x: Any, shape: list[int]) -> Any:
    """The tensor broadcast to a shape; a constant stays one."""
    if static_shape(x) == shape:
        return x
    values = constant_value(x)
    return bb.normalize(relax.op.broadcast_to(x, shape)) if values is None else constant(np.broadcast_to(values, shape))


@imports("RMSNormalization", "SimplifiedLayerNormalization", "com.microsoft::SimplifiedLayerNormalization")
def rms_norm(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
    """x / sqrt(mean(x^2) + epsilon) * gamma over the axes from `axis` on."""
    x, gamma, epsilon = inputs[0], inputs[1], attrs.get("epsilon", 1e-5)
    rank, emit = len(static_shape(x)), bb.normalize
    axes = list(range(int(attrs.get("axis", -1)) % rank, rank))
    if str(x.ty.dtype) != "float32":
        return None
    if len(axes) < rank:
        return relax.op.nn.rms_norm(x, gamma, axes, epsilon)
    mean = emit(relax.op.mean(emit(relax.op.multiply(x, x)), axes, True))
    factor = emit(relax.op.rsqrt(emit(relax.op.add(mean, relax.const(epsilon, "float32")))))
    return relax.op.multiply(emit(relax.op.multiply(x, factor)), gamma)
