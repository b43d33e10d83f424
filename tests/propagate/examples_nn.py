"""Examples of layers: convolutions, pooling, normalisation, attention."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from tvm import relax

from .example_inputs import fixed, pruned, real

O = relax.op.nn  # noqa: E741
IMAGE, SIGNAL, VOLUME = real(1, 4, 4, 3), real(2, 4, 5), real(1, 2, 3, 3, 3)
HEADS = real(1, 3, 2, 2, low=-2, high=2)  # with a causal mask, TVM divides 0 by 0 where all scores are far below 0
KINDS = ("max", "avg")
POOLS: list[dict[str, Any]] = [
    {"pool_size": (2, 2)}, {"pool_size": (3, 3), "strides": (2, 1), "padding": 1},
    {"pool_size": (2, 2), "strides": (2, 2), "ceil_mode": True},
]  # fmt: skip
POSITIVE = fixed(np.array([0.5, 1.0, 2.0, 0.7], np.float32))
GAMMA, BETA = pruned(4), pruned(4)
MASK = fixed(np.where(np.triu(np.ones((3, 3), bool), 1), -np.inf, 0.0).astype(np.float32))

LAYER_EXAMPLES: list[Any] = [
    ("nn.conv1d", lambda x, w: O.conv1d(x, w, padding=1), (SIGNAL, pruned(3, 4, 3))),
    ("nn.conv1d", lambda x, w: O.conv1d(x, w, groups=2, strides=2), (SIGNAL, pruned(4, 2, 2))),
    ("nn.conv1d", lambda x, w: O.conv1d(x, w), (SIGNAL, real(3, 4, 3))),
    ("nn.conv2d", lambda x, w: O.conv2d(x, w), (IMAGE, pruned(3, 4, 1, 1))),
    ("nn.conv2d", lambda x, w: O.conv2d(x, w, padding=1), (IMAGE, pruned(3, 4, 3, 3))),
    ("nn.conv2d", lambda x, w: O.conv2d(x, w, padding=(1, 0, 2, 1), strides=2), (IMAGE, pruned(3, 4, 2, 2))),
    ("nn.conv2d", lambda x, w: O.conv2d(x, w, dilation=2, padding=2), (IMAGE, pruned(3, 4, 3, 3))),
    ("nn.conv2d", lambda x, w: O.conv2d(x, w, groups=2), (IMAGE, pruned(6, 2, 2, 2))),
    ("nn.conv2d", lambda x, w: O.conv2d(x, w, groups=4, padding=1), (IMAGE, pruned(4, 1, 3, 3))),
    ("nn.conv2d", lambda x, w: O.conv2d(x, w, groups=4), (IMAGE, pruned(8, 1, 2, 2))),
    ("nn.conv2d", lambda x, w: O.conv2d(x, w), (IMAGE, real(3, 4, 2, 2))),
    ("nn.conv2d", lambda x, w: O.conv2d(x, w), (pruned(1, 4, 4, 3), real(3, 4, 1, 1))),
    ("nn.conv2d", lambda x, w: O.conv2d(x, w, data_layout="NHWC", kernel_layout="OHWI"), (IMAGE, pruned(2, 2, 2, 3))),
    ("nn.conv3d", lambda x, w: O.conv3d(x, w, padding=1), (VOLUME, pruned(3, 2, 2, 2, 2))),
    ("nn.conv1d_transpose", lambda x, w: O.conv1d_transpose(x, w, strides=2), (SIGNAL, pruned(4, 3, 2))),
    ("nn.conv2d_transpose", lambda x, w: O.conv2d_transpose(x, w), (IMAGE, pruned(4, 3, 2, 2))),
    ("nn.conv2d_transpose", lambda x, w: O.conv2d_transpose(x, w, strides=2, padding=1), (IMAGE, pruned(4, 3, 3, 3))),
    ("nn.conv2d_transpose", lambda x, w: O.conv2d_transpose(x, w, groups=2), (IMAGE, pruned(4, 2, 2, 2))),
    ("nn.conv2d_transpose", lambda x, w: O.conv2d_transpose(x, w, strides=3), (IMAGE, pruned(4, 3, 2, 2))),
    ("nn.conv2d_transpose", lambda x, w: O.conv2d_transpose(x, w), (IMAGE, real(4, 3, 2, 2))),
    ("nn.conv3d_transpose", lambda x, w: O.conv3d_transpose(x, w), (VOLUME, pruned(2, 3, 2, 2, 2))),
    *[(f"nn.{k}_pool1d", partial(getattr(O, f"{k}_pool1d"), pool_size=2), (SIGNAL,)) for k in KINDS],
    *[(f"nn.{k}_pool3d", partial(getattr(O, f"{k}_pool3d"), pool_size=(2, 2, 2)), (VOLUME,)) for k in KINDS],
    *[(f"nn.{k}_pool2d", partial(getattr(O, f"{k}_pool2d"), **options), (IMAGE,)) for k in KINDS for options in POOLS],
    ("nn.avg_pool2d", lambda x: O.avg_pool2d(x, (3, 3), padding=1, count_include_pad=True), (IMAGE,)),
    ("nn.max_pool2d", lambda x: O.max_pool2d(x, (2, 2), dilation=(2, 1)), (IMAGE,)),
    ("nn.max_pool2d", lambda x: O.max_pool2d(x, (2, 2), layout="NHWC"), (IMAGE,)),
    ("nn.adaptive_avg_pool1d", lambda x: O.adaptive_avg_pool1d(x, 2), (SIGNAL,)),
    ("nn.adaptive_avg_pool2d", lambda x: O.adaptive_avg_pool2d(x, (1, 1)), (IMAGE,)),
    ("nn.adaptive_avg_pool2d", lambda x: O.adaptive_avg_pool2d(x, (2, 2)), (IMAGE,)),
    ("nn.adaptive_avg_pool3d", lambda x: O.adaptive_avg_pool3d(x, (1, 1, 1)), (VOLUME,)),
    ("nn.layer_norm", lambda x, g, b: O.layer_norm(x, g, b, axes=-1), (real(2, 3, 4), GAMMA, BETA)),
    ("nn.layer_norm", lambda x, g, b: O.layer_norm(x, g, b, axes=-1), (real(2, 3, 4), real(4), real(4))),
    ("nn.layer_norm", lambda x, g, b: O.layer_norm(x, g, b, axes=(1, 2)), (real(2, 3, 4), pruned(3, 4), pruned(3, 4))),
    ("nn.rms_norm", lambda x, g: O.rms_norm(x, g, axes=-1), (real(2, 3, 4), GAMMA)),
    ("nn.group_norm", lambda x, g, b: O.group_norm(x, g, b, 2, 1, [2, 3]), (IMAGE, GAMMA, BETA)),
    ("nn.group_norm", lambda x, g, b: O.group_norm(x, g, b, 4, 1, [2, 3]), (IMAGE, GAMMA, real(4))),
    ("nn.group_norm", lambda x, g, b: O.group_norm(x, g, b, 2, 1, [2, 3], center=False, scale=False),
     (IMAGE, GAMMA, BETA)),
    ("nn.instance_norm", lambda x, g, b: O.instance_norm(x, g, b, 1, [2, 3]), (IMAGE, GAMMA, BETA)),
    ("nn.batch_norm", lambda x, g, b, m, v: O.batch_norm(x, g, b, m, v, 1, training=False),
     (IMAGE, GAMMA, BETA, pruned(4), POSITIVE)),
    ("nn.batch_norm", lambda x, g, b, m, v: O.batch_norm(x, g, b, m, v, 1, training=True),
     (IMAGE, GAMMA, BETA, pruned(4), POSITIVE)),
    ("nn.batch_norm", lambda x, g, b, m, v: O.batch_norm(x, g, b, m, v, 1, training=False),
     (IMAGE, real(4), real(4), real(4), real(4, low=0.5, high=2))),
    ("nn.softmax", lambda x: O.softmax(x, -1), (real(2, 3, 4),)),
    ("nn.softmax", lambda x: O.softmax(x, 1), (real(2, 3, 4),)),
    ("nn.log_softmax", lambda x: O.log_softmax(x, -1), (real(2, 3, 4),)),
    ("nn.attention", lambda q, k, v: O.attention(q, k, v), (HEADS, HEADS, HEADS)),
    ("nn.attention", lambda q, k, v: O.attention(q, k, v, causal_mask="TopLeft"), (HEADS, HEADS, HEADS)),
    ("nn.attention_bias", lambda q, k, v, b: O.attention(q, k, v, b), (HEADS, HEADS, HEADS, real(1, 2, 3, 3))),
    ("nn.dropout", lambda x: O.dropout(x, 0.5), (IMAGE,)),
    ("nn.batch_flatten", O.batch_flatten, (IMAGE,)),
    ("nn.pixel_shuffle", lambda x: O.pixel_shuffle(x, 2), (IMAGE,)),
]  # fmt: skip
