"""Examples of operators that move elements, choose among them, or make tensors of nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from .example_inputs import fixed, index, pruned, real

O = relax.op  # noqa: E741
R, M, IMAGE = real(2, 3, 2), real(3, 4), real(1, 2, 3, 3)
PLACES = fixed(np.array([[0, 2], [1, 1]], np.int64))

MOVE_EXAMPLES: list[Any] = [
    ("reshape", lambda x: O.reshape(x, (3, 4)), (R,)),
    ("flatten", O.flatten, (R,)),
    ("squeeze", lambda x: O.squeeze(x, [1]), (real(2, 1, 3),)),
    ("expand_dims", lambda x: O.expand_dims(x, 1), (M,)),
    ("permute_dims", lambda x: O.permute_dims(x, [2, 0, 1]), (R,)),
    ("broadcast_to", lambda x: O.broadcast_to(x, (2, 3, 4)), (real(3, 1),)),
    ("concat", lambda x, y: O.concat((x, y), 1), (R, R)),
    ("concat", lambda x, y: O.concat((x, y), -1), (M, pruned(3, 2))),
    ("stack", lambda x, y: O.stack((x, y), 1), (M, M)),
    ("split", lambda x: O.split(x, 2, 1), (M,)),
    ("split", lambda x: O.split(x, [1, 3], -1), (M,)),
    ("strided_slice", lambda x: O.strided_slice(x, [1], [1], [4], [2]), (M,)),
    ("strided_slice", lambda x: O.strided_slice(x, [0, 1], [-1, 3], [-4, 0], [-1, -2]), (M,)),
    ("take", lambda x, i: O.take(x, i, 1), (M, fixed(np.array([0, 2, 2], np.int64)))),
    ("take", lambda x, i: O.take(x, i, 0, "clip"), (M, index(3, 2))),
    ("take", lambda x, i: O.take(x, i, 0, "clip"), (pruned(3, 4), index(3, 2, 2))),
    ("take", lambda x, i: O.take(x, i, 1, "clip"), (R, fixed(np.int64(1)))),
    ("gather_elements", lambda x, i: O.gather_elements(x, i, 0), (M, PLACES)),
    ("gather_elements", lambda x, i: O.gather_elements(x, i, 1), (M, index(4, 3, 2))),
    ("gather_nd", O.gather_nd, (M, PLACES)),
    ("gather_nd", O.gather_nd, (M, index(3, 2, 2))),
    ("scatter_elements", lambda x, i, u: O.scatter_elements(x, i, u, 0), (M, PLACES, real(2, 2))),
    ("scatter_elements", lambda x, i, u: O.scatter_elements(x, i, u, 1), (M, index(4, 2, 2), real(2, 2))),
    ("scatter_elements", lambda x, i, u: O.scatter_elements(x, i, u, 0, "add"), (M, PLACES, real(2, 2))),
    ("scatter_elements", lambda x, i, u: O.scatter_elements(x, i, u, 0, "mul"), (M, PLACES, real(2, 2))),
    ("scatter_nd", O.scatter_nd, (M, PLACES, real(2))),
    ("scatter_nd", O.scatter_nd, (M, index(3, 2, 2), real(2))),
    ("scatter_nd", lambda x, i, u: O.scatter_nd(x, i, u, "add"), (M, PLACES, real(2))),
    ("slice_scatter", lambda x, s: O.slice_scatter(x, s, 1, 3, 1, axis=1), (M, real(3, 2))),
    ("index_tensor", lambda x, i: O.index_tensor(x, (i,)), (M, index(3, 2))),
    ("index_tensor", lambda x, i: O.index_tensor(x, (i,)), (M, fixed(np.array([2, 0], np.int64)))),
    ("index_put", lambda x, i, v: O.index_put(x, (i,), v), (real(4), fixed(np.array([2, 0], np.int64)), real(2))),
    ("index_put", lambda x, i, v: O.index_put(x, (i,), v, True), (real(4), index(4, 2), real(2))),
    ("nn.pad", lambda x: O.nn.pad(x, [0, 0, 0, 0, 1, 0, 2, 1]), (IMAGE,)),
    ("nn.pad", lambda x: O.nn.pad(x, [0, 0, 1, 0, 1, 0, 0, 1], "constant", 0.7), (IMAGE,)),
    ("nn.pad", lambda x: O.nn.pad(x, [0, 0, 0, 0, 1, 0, 2, 1], "reflect"), (IMAGE,)),
    ("nn.pad", lambda x: O.nn.pad(x, [0, 0, 0, 0, 1, 0, 2, 1], "replicate"), (IMAGE,)),
    ("nn.pad", lambda x: O.nn.pad(x, [0, 0, 0, 0, 1, 0, 2, 1], "circular"), (IMAGE,)),
    ("tile", lambda x: O.tile(x, (2, 1, 2)), (M,)),
    ("repeat", lambda x: O.repeat(x, 2, 1), (M,)),
    ("repeat", lambda x: O.repeat(x, 2), (M,)),
    ("flip", lambda x: O.flip(x, 1), (M,)),
    ("tril", lambda x: O.tril(x, 0), (real(2, 3, 3),)),
    ("triu", lambda x: O.triu(x, 1), (real(2, 3, 3),)),
    ("one_hot", lambda i: O.one_hot(i, relax.prim_value(1.0), relax.prim_value(0.0), 4), (index(4, 3),)),
    ("reverse_sequence", lambda x, n: O.reverse_sequence(x, n, 1, 0), (M, fixed(np.array([1, 4, 2], np.int64)))),
    ("meshgrid", lambda x, y: O.meshgrid((x, y)), (real(2), real(3))),
    ("collapse_sum_to", lambda x: O.collapse_sum_to(x, (3, 1)), (R,)),
    ("collapse_sum_like", O.collapse_sum_like, (R, real(3, 1))),
    ("layout_transform", lambda x: O.layout_transform(x, lambda a, b: (b, a)), (M,)),
    ("layout_transform", lambda x: O.layout_transform(x, lambda a, b: (a, b // 3, b % 3), 0.5), (M,)),
    ("image.resize2d", lambda x: O.image.resize2d(x, (6, 6)), (IMAGE,)),
    ("image.resize2d", lambda x: O.image.resize2d(x, (2, 4), method="nearest_neighbor"), (IMAGE,)),
    ("image.resize3d", lambda x: O.image.resize3d(x, (2, 2, 2)), (real(1, 2, 3, 3, 3),)),
    ("image.grid_sample", O.image.grid_sample, (IMAGE, real(1, 2, 2, 2, low=-0.9, high=0.9))),
    ("full", lambda v: O.full((2, 3), v), (real(),)),
    ("full", lambda v: O.full((2, 3), v), (fixed(np.float32(0)),)),
    ("full_like", O.full_like, (M, real())),
    ("zeros_like", O.zeros_like, (M,)),
    ("ones_like", O.ones_like, (M,)),
    ("zeros", lambda: O.zeros((2, 3), "float32"), ()),
    ("ones", lambda: O.ones((2, 3), "float32"), ()),
    ("arange", lambda: O.arange(1, 7, 2), ()),
    ("eye", lambda: O.eye(3, 4), ()),
    ("eye_like", O.eye_like, (real(3, 3),)),
    ("hamming_window", lambda: O.hamming_window(4, True, 0.54, 0.46, "float32"), ()),
    ("size", O.size, (M,)),
]  # fmt: skip
