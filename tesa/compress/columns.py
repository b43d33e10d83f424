"""The input of a layer as rows of k numbers, which its weight is multiplied with; some are drawn where there are many.

A convolution reads windows; one that is transposed reads the windows of its input with zeros in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.compress.layers import Layer

Rows = NDArray[np.float32]


class Columns:
    """Reads the inputs of a layer as (samples, k); of a grouped layer as (groups, samples, k of a group).

    share: of the rows that are taken, drawn by the seed; the same rows of both networks.
    """

    def __init__(self, layer: Layer, share: float, seed: int) -> None:
        self.layer, self.share = layer, share
        self.rng = np.random.default_rng(seed)

    def pair(self, dense: NDArray[Any], now: NDArray[Any]) -> tuple[Rows, Rows]:
        """The rows of an activation in both networks; one array where these are the same."""
        if self.layer.op == "linear":
            view, other = (self._flat(x) for x in (dense, now))
            chosen = self._chosen(len(view))
            first = np.ascontiguousarray(view[chosen], np.float32)
            return first, first if dense is now else np.ascontiguousarray(other[chosen], np.float32)
        windows = _Windows(self.layer, dense.shape)
        chosen = self._chosen(windows.count)
        first = windows.rows(dense, chosen)
        return first, first if dense is now else windows.rows(now, chosen)

    def _chosen(self, count: int) -> Any:
        wanted = max(1, min(count, int(np.ceil(count * self.share))))
        if wanted >= count:
            return slice(None)
        return np.sort(self.rng.choice(count, wanted, replace=False))

    def _flat(self, x: NDArray[Any]) -> NDArray[Any]:
        turn = bool(self.layer.options.get("transA" if self.layer.position == 1 else "transB", 0))
        if (self.layer.position == 0) != turn:
            x = x.swapaxes(-1, -2)
        return x.reshape(-1, x.shape[-1])


def rows_of(layer: Layer, shape: Sequence[int]) -> int:
    """The rows that an activation of this shape has for a layer."""
    if layer.op == "linear":
        return int(np.prod(shape, dtype=np.int64)) // layer.k
    return _Windows(layer, shape).count


class _Windows:
    """The windows that a convolution reads of a tensor (n, channels, *space)."""

    def __init__(self, layer: Layer, shape: Sequence[int]) -> None:
        options, self.layer = layer.options, layer
        self.taps = tuple(layer.shape[2:])
        space = tuple(shape[2:])
        rank = len(self.taps)
        self.strides = tuple(options.get("strides", [1] * rank))
        self.dilations = tuple(options.get("dilations", [1] * rank))
        pads = list(options.get("pads", [0] * 2 * rank))
        reach = [(t - 1) * d for t, d in zip(self.taps, self.dilations, strict=True)]
        auto = options.get("auto_pad", b"NOTSET")
        if auto in (b"SAME_UPPER", b"SAME_LOWER"):
            total = [
                max((-(-n // s) - 1) * s + r + 1 - n, 0) for n, s, r in zip(space, self.strides, reach, strict=True)
            ]
            if layer.transposed:
                total = [max(r + 1 - s, 0) for s, r in zip(self.strides, reach, strict=True)]
            low = [t // 2 if auto == b"SAME_UPPER" else -(-t // 2) for t in total]
            pads = [*low, *(t - one for t, one in zip(total, low, strict=True))]
        self.spread = (1,) * rank
        if layer.transposed:
            extra = options.get("output_padding", [0] * rank)
            self.spread, self.strides = self.strides, (1,) * rank
            pads = [
                *(r - p for r, p in zip(reach, pads[:rank], strict=True)),
                *(r - p + e for r, p, e in zip(reach, pads[rank:], extra, strict=True)),
            ]
        self.pads = pads
        wide = [(n - 1) * s + 1 for n, s in zip(space, self.spread, strict=True)]
        full = [n + pads[i] + pads[i + rank] for i, n in enumerate(wide)]
        self.out = tuple((n - r - 1) // s + 1 for n, r, s in zip(full, reach, self.strides, strict=True))
        self.count = int(shape[0] * np.prod(self.out, dtype=np.int64))

    def rows(self, x: NDArray[Any], chosen: Any) -> Rows:
        """(samples, k), or (groups, samples, k of a group), of these windows."""
        rank = len(self.taps)
        x = np.asarray(x, np.float32)
        if max(self.spread) > 1:
            wide = np.zeros((*x.shape[:2], *((n - 1) * s + 1 for n, s in zip(x.shape[2:], self.spread, strict=True))))
            between: Any = (..., *(slice(None, None, s) for s in self.spread))
            wide[between] = x
            x = wide.astype(np.float32)
        low, high = self.pads[:rank], self.pads[rank:]
        cut = [slice(max(-a, 0), n - max(-b, 0)) for a, b, n in zip(low, high, x.shape[2:], strict=True)]
        inside: Any = (slice(None), slice(None), *cut)
        x = x[inside]
        x = np.pad(x, [(0, 0), (0, 0), *((max(a, 0), max(b, 0)) for a, b in zip(low, high, strict=True))])
        reach = [(t - 1) * d + 1 for t, d in zip(self.taps, self.dilations, strict=True)]
        view = np.lib.stride_tricks.sliding_window_view(x, reach, axis=tuple(range(2, 2 + rank)))
        steps = [slice(None, None, int(s)) for s in (1, 1, *self.strides, *self.dilations)]
        view = view[tuple(steps)]  # one for each axis
        if self.layer.transposed:
            view = np.flip(view, tuple(range(-rank, 0)))
        view = np.moveaxis(view, 1, 1 + rank)  # (n, *out, channels, *taps)
        if isinstance(chosen, slice):
            picked = view.reshape(self.count, view.shape[1 + rank], -1)
        else:
            places = np.unravel_index(chosen, (view.shape[0], *self.out))
            picked = view[places].reshape(len(chosen), view.shape[1 + rank], -1)
        if self.layer.groups == 1:
            return np.ascontiguousarray(picked.reshape(len(picked), -1))
        split = picked.reshape(len(picked), self.layer.groups, -1)
        return np.ascontiguousarray(split.swapaxes(0, 1))
