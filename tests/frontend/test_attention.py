"""Attention in all its forms, ONNX's and ONNX Runtime's, with the numbers of onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .merged import computed, expected
from .onnx_models import floats
from .test_fused import F, check
from .test_operators import MS, Op

B, S, N, H = 2, 5, 2, 4
X = floats(B, S, 8)
PROJECTION = {"w": floats(8, 3 * N * H, seed=1), "b": floats(3 * N * H, seed=2)}
PAST = floats(2, B, N, 3, H, seed=3)
MASKS = {
    "keys": np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32),
    "none count": np.array([[0, 0, 0, 0, 0], [1, 1, 0, 1, 1]], np.int32),
    "each query": np.random.default_rng(0).integers(0, 2, (B, S, S)).astype(np.int32),
    "ends": np.array([3, 5], np.int32), "ends and begins": np.array([4, 5, 1, 0], np.int32),
}  # fmt: skip


def single() -> dict[str, Op]:
    """Attention whose projections are one product."""
    ops: dict[str, Op] = {}
    for name, mask in MASKS.items():
        for causal in (0, 1):
            ops[f"{name} {causal}"] = Op(
                "Attention", {"x": X, "m": mask}, PROJECTION, domain=MS, order=("x", "w", "b", "m"),
                attrs={"num_heads": N, "unidirectional": causal},
            )  # fmt: skip
    past = {"x": X, "p": PAST}
    ops["past"] = Op("Attention", past, PROJECTION, domain=MS, order=("x", "w", "b", "", "p"), outputs=2,
                     attrs={"num_heads": N, "unidirectional": 1})  # fmt: skip
    ops["past, mask"] = Op(
        "Attention", {**past, "m": np.array([[1] * 6 + [0] * 2, [0] + [1] * 7], np.int32)}, PROJECTION, domain=MS,
        order=("x", "w", "b", "m", "p"), outputs=2, attrs={"num_heads": N, "mask_filter_value": -50.0},
    )  # fmt: skip
    ops["bias"] = Op(
        "Attention", {"x": X, "a": floats(1, N, S, S)}, PROJECTION, domain=MS, order=("x", "w", "b", "", "", "a"),
        attrs={"num_heads": N, "scale": 0.7},
    )  # fmt: skip
    ops["sizes"] = Op(
        "Attention", {"x": X}, {"w": floats(8, 28), "b": floats(28)}, domain=MS,
        attrs={"num_heads": N, "qkv_hidden_sizes": [8, 8, 12]},
    )  # fmt: skip
    ops["quantized"] = Op(
        "QAttention", {"x": np.random.default_rng(1).integers(0, 255, (B, S, 8)).astype(np.uint8)},
        {"w": np.random.default_rng(2).integers(-127, 127, (8, 24)).astype(np.int8), "b": floats(24), "xs": F(0.02),
         "ws": F(0.01), "m": MASKS["ends"], "xz": np.uint8(120), "wz": np.int8(0)}, domain=MS, attrs={"num_heads": N},
    )  # fmt: skip
    return ops


def several() -> dict[str, Op]:
    """MultiHeadAttention."""
    base = {"q": X, "k": floats(B, 4, 8, seed=4), "v": floats(B, 4, 12, seed=5)}
    bias = {"b": floats(28)}
    attrs = {"num_heads": N}
    return {
        "plain": Op("MultiHeadAttention", base, bias, domain=MS, attrs=attrs),
        "causal": Op("MultiHeadAttention", {**base, "q": floats(B, 4, 8)}, domain=MS,
                     attrs={**attrs, "unidirectional": 1}),
        "mask": Op("MultiHeadAttention", {**base, "m": MASKS["keys"][:, :4]}, bias, domain=MS, attrs=attrs,
                   order=("q", "k", "v", "b", "m")),
        "lengths": Op("MultiHeadAttention", {**base, "m": MASKS["ends"] - 1}, bias, domain=MS, attrs=attrs,
                      order=("q", "k", "v", "", "m")),
        "score bias": Op("MultiHeadAttention", {**base, "a": floats(1, 1, S, 4)}, bias, domain=MS, attrs=attrs,
                         order=("q", "k", "v", "", "", "a")),
        "heads": Op("MultiHeadAttention", {"q": X, "k": floats(B, N, 3, H), "v": floats(B, N, 3, H, seed=6)},
                    domain=MS, attrs=attrs),
        "past": Op("MultiHeadAttention", {"q": X, "k": floats(B, S, 8, seed=4), "v": floats(B, S, 8, seed=5),
                   "pk": PAST[0], "pv": PAST[1]}, {"b": floats(24)}, domain=MS, attrs=attrs, outputs=3,
                   order=("q", "k", "v", "b", "", "", "pk", "pv")),
    }  # fmt: skip


CACHES = {"cos": np.cos(floats(16, 2)), "sin": np.sin(floats(16, 2))}
WIDE = {"cos": np.cos(floats(16, 8)), "sin": np.sin(floats(16, 8))}
SHARED = {"q": floats(1, 3, 64), "k": floats(1, 3, 32, seed=1), "v": floats(1, 3, 32, seed=2)}


def grouped() -> dict[str, Op]:
    """GroupQueryAttention: four heads of queries share two of keys."""
    attrs = {"num_heads": 4, "kv_num_heads": 2}
    first = {"n": np.array([2], np.int32), "t": np.int32(3)}
    ops = {"first": Op("GroupQueryAttention", SHARED, first, domain=MS, attrs=attrs, outputs=3,
                       order=("q", "k", "v", "", "", "n", "t"))}  # fmt: skip
    rotary = {**attrs, "do_rotary": 1}
    ops["rotary"] = Op("GroupQueryAttention", SHARED, {**first, **WIDE}, domain=MS, attrs=rotary, outputs=3,
                       order=("q", "k", "v", "", "", "n", "t", "cos", "sin"))  # fmt: skip
    ops["interleaved, window"] = Op(
        "GroupQueryAttention", SHARED, {**first, **WIDE}, domain=MS, outputs=3,
        attrs={**rotary, "rotary_interleaved": 1, "local_window_size": 2, "softcap": 1.5},
        order=("q", "k", "v", "", "", "n", "t", "cos", "sin"),
    )  # fmt: skip
    ops["packed"] = Op("GroupQueryAttention", {"q": floats(1, 3, 128)}, {**first, **WIDE}, domain=MS, attrs=rotary,
                       outputs=3, order=("q", "", "", "", "", "n", "t", "cos", "sin"))  # fmt: skip
    past = {"pk": floats(1, 2, 6, 16, seed=7), "pv": floats(1, 2, 6, 16, seed=8)}
    order = ("q", "k", "v", "pk", "pv", "n", "t", "cos", "sin")
    for name, more in (("", {}), (" window", {"local_window_size": 3}), (" smooth", {"smooth_softmax": 1})):
        ops[f"past{name}"] = Op(
            "GroupQueryAttention", {**SHARED, **past, "n": np.array([8], np.int32)}, {"t": np.int32(9), **WIDE},
            domain=MS, attrs={**rotary, **more}, outputs=3, order=order,
        )  # fmt: skip
    return ops


def test_rows_of_a_batch_have_pasts_of_their_own() -> None:
    """What lies behind the last key of a row is not specified."""
    given = {
        "q": floats(2, 1, 64), "k": floats(2, 1, 32, seed=1), "v": floats(2, 1, 32, seed=2),
        "pk": floats(2, 2, 8, 16, seed=7), "pv": floats(2, 2, 8, 16, seed=8), "n": np.array([4, 6], np.int32),
    }  # fmt: skip
    op = Op(
        "GroupQueryAttention", given, {"t": np.int32(7), **WIDE}, domain=MS, outputs=3, opset=18,
        attrs={"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1},
        order=("q", "k", "v", "pk", "pv", "n", "t", "cos", "sin"),
    )  # fmt: skip
    want, found = expected(op.model(), given), computed(op.model(), given)
    np.testing.assert_allclose(found["y0"], want["y0"], atol=1e-5)
    for name in ("y1", "y2"):
        for row, last in enumerate((5, 7)):
            np.testing.assert_allclose(found[name][row, :, :last], want[name][row, :, :last], atol=1e-5)


def rotated() -> dict[str, Op]:
    """RotaryEmbedding of ONNX Runtime."""
    places = {"p": np.array([[0, 3, 1, 2, 5]] * B, np.int64)}
    order = ("x", "p", "cos", "sin")
    return {
        "places": Op("RotaryEmbedding", {"x": X, **places}, CACHES, domain=MS, order=order),
        "offset": Op("RotaryEmbedding", {"x": X, "p": np.array([3])}, CACHES, domain=MS, order=order,
                     attrs={"interleaved": 1}),
        "heads": Op("RotaryEmbedding", {"x": floats(B, N, S, H), **places}, CACHES, domain=MS, order=order),
        "part": Op("RotaryEmbedding", {"x": floats(B, S, 12), **places}, CACHES, domain=MS, order=order,
                   attrs={"rotary_embedding_dim": 4, "num_heads": 2}),
    }  # fmt: skip


def test_attention_with_one_product() -> None:
    check(single())


def test_attention_of_several_operands() -> None:
    check(several())


@pytest.mark.slow
def test_grouped_attention() -> None:
    check(grouped())


def test_rotary_embeddings() -> None:
    check(rotated())


def test_an_embedding_gives_the_mask_of_an_attention() -> None:
    tables: dict[str, Any] = {
        "we": floats(20, 8), "pe": floats(6, 8), "se": floats(3, 8), "g": floats(8), "be": floats(8)
    }  # fmt: skip
    ids = {"i": np.array([[1, 2, 3, 4, 5]] * 2, np.int32), "s": np.array([[0, 1, 2, 1, 0]] * 2, np.int32)}
    order = ("i", "s", "we", "pe", "se", "g", "be", "m", "p")
    given = {**ids, "m": MASKS["keys"], "p": np.array([[1, 0, 3, 2, 4]] * 2, np.int32)}
    check({
        "all": Op("EmbedLayerNormalization", given, tables, domain=MS, outputs=3, order=order),
        "few": Op("EmbedLayerNormalization", {"i": ids["i"]}, tables, domain=MS, outputs=2,
                  order=("i", "", "we", "pe", "", "g", "be")),
    })  # fmt: skip
