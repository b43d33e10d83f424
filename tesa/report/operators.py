"""Short names for fused operators, whose own names join those of all that they compute."""

import re

from tesa.base.loop_names import LOOP

WIDTH = 22
"""Columns that the name of a fused operator takes at most where its first word leaves room."""

_FUSED = "fused_"
_JOINED = (
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d avg_pool1d avg_pool2d avg_pool3d batch_flatten "
    "batch_matmul batch_norm bitwise_and bitwise_not bitwise_or bitwise_xor broadcast_to collapse_sum conv1d_transpose "
    "conv2d_transpose conv3d_transpose dynamic_strided_slice expand_dims eye_like floor_divide floor_mod full_like "
    "gather_elements gather_nd gelu_tanh greater_equal grid_sample group_norm index_put index_tensor instance_norm "
    "layer_norm layout_transform leaky_relu left_shift less_equal log_add_exp log_softmax logical_and logical_not "
    "logical_or logical_xor max_pool1d max_pool2d max_pool3d not_equal one_hot ones_like permute_dims pixel_shuffle "
    "reverse_sequence right_shift rms_norm roi_align roi_pool scatter_elements scatter_nd shape_of slice_scatter "
    "strided_slice tir_[a-z]+ zeros_like"
).split()
_WORD = re.compile(rf"({'|'.join(sorted(_JOINED, key=len, reverse=True))}|[a-z0-9]+?)\d*(?=_|$)", re.IGNORECASE)


def short_operator(op: str, layer: str = "") -> str:
    """The operator of a row in few columns: of a fused one the first that it computes and how many there are.

    layer: of the row; the functions that cut and join what the steps of a loop read and write say so.

    >>> short_operator("fused_strided_slice_strided_slice2_tir_sigmoid_multiply_add1")
    'strided_slice, ... (5)'
    >>> short_operator("fused_concatenate_relu"), short_operator("linear")
    ('concatenate, relu', 'linear')
    >>> short_operator("split", "tesa_loop_cell_10")
    'loop of 10: split'
    """
    if layer.startswith(LOOP) and layer.rpartition("_")[2].isdigit():
        return f"loop of {layer.rpartition('_')[2]}: {short_operator(op).rstrip('0123456789')}"
    words = operators_in(op)
    whole = ", ".join(words)
    if len(whole) <= WIDTH or len(words) == 1:
        return whole
    end, shown = f", ... ({len(words)})", 1
    while len(", ".join(words[: shown + 1]) + end) <= WIDTH:
        shown += 1
    return ", ".join(words[:shown]) + end


def operators_in(op: str) -> list[str]:
    """The operators that a fused one computes, in order; of another one its own name.

    >>> operators_in("fused_tir_exp_conv2d1_expand_dims_log_softmax2")
    ['exp', 'conv2d', 'expand_dims', 'log_softmax']
    """
    if not op.startswith(_FUSED):
        return [op]
    return [word.removeprefix("tir_") for word in _WORD.findall(op.removeprefix(_FUSED))]
