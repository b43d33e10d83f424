"""Fused operators take few columns in tables, and are split into what they compute."""

from __future__ import annotations

import tvm
from tvm import relax  # noqa: F401  (importing it registers the operators)

from tesa.report.operators import WIDTH, operators_in, short_operator


def test_operators_of_several_words_stay_whole() -> None:
    wanted = [
        "strided_slice", "expand_dims", "log_softmax", "layer_norm", "broadcast_to", "permute_dims", "max_pool2d",
        "adaptive_avg_pool2d", "floor_divide", "conv2d_transpose", "logical_and", "greater_equal", "one_hot",
        "gather_nd", "scatter_elements", "layout_transform", "left_shift", "bitwise_xor", "leaky_relu",
    ]  # fmt: skip
    known = {name.split(".")[-1].replace("leakyrelu", "leaky_relu") for name in tvm.ir.Op.list_op_names()}
    assert set(wanted) <= known
    assert operators_in("fused_" + "_".join(wanted)) == wanted
    assert operators_in("fused_" + "_".join(f"{name}3" for name in wanted)) == wanted


def test_a_long_list_of_operators_is_short_and_says_how_many() -> None:
    name = "fused_multiply1_add_tir_tanh_multiply_add_round_clip_cast_subtract_cast1"
    assert short_operator(name) == "multiply, ... (10)"
    assert short_operator("fused_add_relu_add_relu_add_relu_add_relu") == "add, relu, ... (8)"
    for count in range(1, 40):
        assert len(short_operator("fused" + "_multiply" * count)) <= WIDTH
    assert short_operator("my_own_operator_with_a_long_name") == "my_own_operator_with_a_long_name"


def test_functions_of_loops_say_how_many_steps() -> None:
    assert short_operator("split2", "tesa_loop_cell_2_10") == "loop of 10: split"
    assert short_operator("fused_concatenate1", "tesa_loop_cell_64") == "loop of 64: concatenate"
