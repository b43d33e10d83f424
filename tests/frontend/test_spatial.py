"""Sampling, pooling with places, transforms and movement that are written out, with the numbers of onnxruntime."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from .merged import computed
from .onnx_models import floats
from .test_fused import F, check
from .test_operators import MS, Op

PICTURE = floats(2, 3, 5, 6)
GRID = (1.3 * floats(2, 4, 3, 2, seed=1)).clip(-2.2, 2.2)


def sampling() -> dict[str, Op]:
    """All modes of GridSample."""
    modes = itertools.product(("linear", "nearest", "cubic"), ("zeros", "border", "reflection"), (0, 1))
    ops = {
        f"grid {mode} {pad} {corners}": Op(
            "GridSample", {"x": PICTURE, "g": GRID},
            attrs={"mode": mode, "padding_mode": pad, "align_corners": corners},
        )
        for mode, pad, corners in modes
    }  # fmt: skip
    ops |= {
        f"volume {mode}": Op("GridSample", {"x": floats(1, 2, 3, 4, 5), "g": floats(1, 2, 3, 2, 3, seed=1)},
                             attrs={"mode": mode})
        for mode in ("linear", "nearest")
    }  # fmt: skip
    return ops


def pools() -> dict[str, Op]:
    """MaxPool with the places of its maxima."""
    forms: dict[str, dict[str, Any]] = {
        "plain": {"kernel_shape": [2, 3]}, "strides": {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]},
        "same": {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
        "lower": {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"}, "columns": {"kernel_shape": [2, 2],
                                                                                "storage_order": 1},
        "ceil": {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
        "dilated": {"kernel_shape": [2, 2], "dilations": [2, 2]},
    }  # fmt: skip
    ops = {name: Op("MaxPool", {"x": PICTURE}, attrs=form, outputs=2) for name, form in forms.items()}
    ops["line"] = Op("MaxPool", {"x": floats(1, 2, 7)}, attrs={"kernel_shape": [3], "strides": [2]}, outputs=2)
    ops["ties"] = Op("MaxPool", {"x": np.round(PICTURE)}, attrs={"kernel_shape": [3, 3]}, outputs=2)
    places = np.array([[[[6, 8], [16, 19]]]])
    ops["back"] = Op("MaxUnpool", {"x": floats(1, 1, 2, 2), "i": places}, attrs={"kernel_shape": [2, 2],
                                                                               "strides": [3, 3]})  # fmt: skip
    return ops


def transforms() -> dict[str, Op]:
    """DFT and STFT of opset 17."""
    signal, both = floats(2, 12, 3, 1), floats(2, 12, 3, 2)
    return {
        "real": Op("DFT", {"x": signal}, attrs={"axis": 1}),
        "one side": Op("DFT", {"x": signal}, attrs={"axis": 1, "onesided": 1}),
        "complex": Op("DFT", {"x": both}, attrs={"axis": 2}),
        "inverse": Op("DFT", {"x": both}, attrs={"axis": 1, "inverse": 1}),
        "shorter": Op("DFT", {"x": signal}, {"n": np.int64(8)}, attrs={"axis": 1}),
        "longer": Op("DFT", {"x": signal}, {"n": np.int64(15)}, attrs={"axis": 1}),
        "frames": Op("STFT", {"x": floats(2, 30, 1)}, {"s": np.int64(4), "w": np.hanning(8).astype(F)}),
        "whole": Op("STFT", {"x": floats(2, 30, 1)}, {"s": np.int64(5), "n": np.int64(10)}, attrs={"onesided": 0},
                    order=("x", "s", "", "n")),
    }  # fmt: skip


def movement() -> dict[str, Op]:
    """Blocks, crops, offsets, regions."""
    image, block = np.array([5, 6]), np.array([2, 3])
    regions = {"r": np.array([[0.5, 1, 4.2, 3.9], [1, 0, 5, 4]], F), "b": np.array([1, 0])}
    align = {"output_height": 2, "output_width": 3, "sampling_ratio": 2, "mode": "max"}
    deform = {"x": PICTURE, "o": 0.7 * floats(2, 8, 4, 5, seed=3)}
    return {
        "blocks": Op("Col2Im", {"x": floats(1, 12, 16)}, {"i": image, "b": block}),
        "blocks apart": Op("Col2Im", {"x": floats(2, 12, 9)}, {"i": image, "b": block},
                           attrs={"strides": [2, 2], "pads": [0, 1, 1, 0]}),
        "crop": Op("CenterCropPad", {"x": PICTURE}, {"s": np.array([8, 3])}, attrs={"axes": [2, -1]}),
        "deform": Op(
            "DeformConv", {**deform, "m": floats(2, 4, 4, 5, seed=4)}, {"w": floats(4, 3, 2, 2), "b": floats(4)},
            order=("x", "w", "o", "b", "m"), attrs={"kernel_shape": [2, 2]},
        ),
        "deform, groups": Op(
            "DeformConv", {"x": floats(1, 4, 5, 6), "o": floats(1, 16, 3, 3)}, {"w": floats(6, 2, 2, 2)},
            order=("x", "w", "o"),
            attrs={"kernel_shape": [2, 2], "group": 2, "offset_group": 2, "strides": [2, 2], "pads": [1, 0, 0, 1]},
        ),
        "regions": Op("RoiAlign", {"x": PICTURE, **regions}, attrs=align),
        "regions, old": Op("RoiAlign", {"x": PICTURE, **regions},
                           attrs={**align, "coordinate_transformation_mode": "output_half_pixel",
                                  "spatial_scale": 0.7}),
        "determinant": Op("Det", {"x": floats(2, 3, 3)}),
        "diagonal": Op("EyeLike", {"x": floats(3, 4)}, attrs={"k": 1, "dtype": 7}),
    }  # fmt: skip


@pytest.mark.slow
def test_sampling() -> None:
    check(sampling(), opset=20)


def test_pools_with_places() -> None:
    check(pools())


def test_transforms() -> None:
    check(transforms())


@pytest.mark.slow
def test_movement() -> None:
    every = movement()
    regions = {name: every.pop(name) for name in tuple(every) if name.startswith("regions")}
    check(every, opset=22)
    check(regions, opset=18)  # the newest of which onnxruntime has a kernel


def test_half_spectra_of_onnxruntime() -> None:
    """Its CPU has no kernel for them: NumPy says what is right."""
    x = floats(3, 10)
    forward = Op("Rfft", {"x": x}, domain=MS, attrs={"signal_ndim": 1, "normalized": 0, "onesided": 1}, opset=18)
    spectrum = np.fft.rfft(x)
    pairs = np.stack([spectrum.real, spectrum.imag], -1).astype(F)
    np.testing.assert_allclose(computed(forward.model(), {"x": x})["y0"], pairs, atol=1e-5)
    back = Op("Irfft", {"x": pairs}, domain=MS, attrs={"signal_ndim": 1, "normalized": 0, "onesided": 1}, opset=18)
    np.testing.assert_allclose(computed(back.model(), {"x": pairs})["y0"], x, atol=1e-5)
