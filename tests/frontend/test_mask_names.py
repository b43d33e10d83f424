"""Masks as torch names them, for weights whose names the exporter has folded away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tesa.errors import UsageError
from tesa.frontend import import_onnx, load_masks

from .onnx_models import floats, model, node, port


def exported(ins: int = 4, outs: int = 6, **nodes: Any) -> Any:
    """Two Linear layers without a bias, as torch exports them: weights (in, out) under numbers, nodes under paths."""
    made = [
        node("MatMul", ["x", "onnx::MatMul_7"], "a", name=nodes.get("fc1", "/fc1/MatMul")),
        node("Relu", ["a"], "r", name="/act/Relu"),
        node("MatMul", ["r", "onnx::MatMul_8"], "y", name=nodes.get("fc2", "/net/net.0/MatMul")),
    ]
    arrays = {"onnx::MatMul_7": floats(ins, outs), "onnx::MatMul_8": floats(outs, ins, seed=1)}
    return model(made, [port("x", [2, ins])], ["y"], arrays)


def masks_of(proto: Any, **masks: Any) -> Any:
    return import_onnx(proto, masks={name.replace("__", "."): mask for name, mask in masks.items()}).masks


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("suffix", ["", ".weight", ".weight_mask"])
def test_a_mask_of_torch_finds_the_weight_of_its_module(prefix: str, suffix: str) -> None:
    mask = floats(6, 4, seed=2) > 0  # torch's weight is (out, in)
    found = import_onnx(exported(), masks={f"{prefix}fc1{suffix}": mask}).masks
    assert list(found) == ["onnx::MatMul_7"]
    np.testing.assert_array_equal(found["onnx::MatMul_7"], mask.T)


def test_a_mask_that_is_as_the_file_has_the_weight_is_taken_as_it_is() -> None:
    mask = floats(4, 6, seed=2) > 0
    np.testing.assert_array_equal(masks_of(exported(), fc1=mask)["onnx::MatMul_7"], mask)


@pytest.mark.parametrize("name", ["fc1", "fc1.weight", "fc1.weight_mask"])
def test_a_square_mask_is_as_torch_has_it_if_its_name_says_weight(name: str) -> None:
    mask = floats(4, 4, seed=2) > 0
    found = import_onnx(exported(4, 4), masks={name: mask}).masks["onnx::MatMul_7"]
    np.testing.assert_array_equal(found, mask.T if "weight" in name else mask)


def test_a_square_mask_of_a_gemm_and_of_an_initializers_own_name_stays() -> None:
    mask = floats(4, 4, seed=2) > 0
    gemm = model(
        [node("Gemm", ["x", "7"], "y", name="/fc/Gemm", transB=1)], [port("x", [2, 4])], ["y"], {"7": floats(4, 4)}
    )
    np.testing.assert_array_equal(masks_of(gemm, fc__weight=mask)["7"], mask)
    named = model([node("MatMul", ["x", "fc.weight"], "y")], [port("x", [2, 4])], ["y"], {"fc.weight": floats(4, 4)})
    np.testing.assert_array_equal(masks_of(named, fc__weight_mask=mask)["fc.weight"], mask)


@pytest.mark.parametrize("name", ["net.0.weight", "net.0", "net.net.0.weight"])
def test_a_child_of_a_sequential_module(name: str) -> None:
    mask = floats(4, 6, seed=2) > 0
    np.testing.assert_array_equal(import_onnx(exported(), masks={name: mask}).masks["onnx::MatMul_8"], mask.T)


def test_a_file_that_was_exported_with_its_wrapper() -> None:
    arrays = {"module.fc.weight": floats(4, 6)}
    proto = model([node("MatMul", ["x", "module.fc.weight"], "y")], [port("x", [2, 4])], ["y"], arrays)
    assert list(masks_of(proto, fc__weight_mask=floats(4, 6) > 0)) == ["module.fc.weight"]


def test_a_weight_that_the_quantizer_has_renamed() -> None:
    codes = np.ones((4, 6), np.int8)
    proto = model(
        [node("DequantizeLinear", ["q", "s"], "w"), node("MatMul", ["x", "w"], "y", name="/fc/MatMul_quant")],
        [port("x", [2, 4])], ["y"], {"q": codes, "s": np.float32(1)},
    )  # fmt: skip
    mask = floats(6, 4, seed=2) > 0
    np.testing.assert_array_equal(masks_of(proto, fc__weight_mask=mask)["q"], mask.T)


@pytest.mark.parametrize("name", ["fc", "fc3", "fc3.weight_mask", "c1", "act", "net", "net.weight", "fc1.bias"])
def test_what_is_only_like_a_name_is_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="matches no weight and no layer"):
        import_onnx(exported(), masks={name: np.ones((6, 4))})


def test_a_product_of_activations_has_no_weight_though_a_bias_led_to_it() -> None:
    nodes = [
        node("MatMul", ["x", "w"], "k"),
        node("Add", ["bias", "k"], "b"),
        node("MatMul", ["x", "b"], "y", name="/attention/MatMul"),
    ]
    proto = model(nodes, [port("x", [4, 4])], ["y"], {"w": floats(4, 4), "bias": floats(4, 4)})
    for name in ("attention", "attention.MatMul"):
        with pytest.raises(UsageError, match="matches no weight"):
            import_onnx(proto, masks={name: np.ones((4, 4))})


def test_a_name_of_two_weights_is_refused_with_both() -> None:
    proto = exported(fc1="/fc1/MatMul", fc2="/fc1/MatMul_1")
    with pytest.raises(UsageError, match=r"weights of 2 nodes: '/fc1/MatMul' \(onnx::MatMul_7\), '/fc1/MatMul_1'"):
        import_onnx(proto, masks={"fc1.weight": np.ones((6, 4))})


def test_a_weight_on_the_left_is_as_torch_has_it() -> None:
    proto = model([node("MatMul", ["7", "x"], "y", name="/fc/MatMul")], [port("x", [4, 3])], ["y"], {"7": floats(4, 4)})
    mask = floats(4, 4, seed=2) > 0
    np.testing.assert_array_equal(masks_of(proto, fc__weight=mask)["7"], mask)


def test_a_file_without_a_mask_is_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "masks.npz")
    with pytest.raises(UsageError, match="holds no mask at all"):
        load_masks(tmp_path / "masks.npz")


def test_a_mask_of_nan_is_refused_from_a_file_as_well(tmp_path: Path) -> None:
    mask = np.full((4, 6), np.nan)
    np.savez(tmp_path / "masks.npz", fc1=mask)
    for masks in ({"fc1": mask}, tmp_path / "masks.npz"):
        with pytest.raises(UsageError, match="mask 'fc1' has NaN"):
            import_onnx(exported(), masks=masks)
