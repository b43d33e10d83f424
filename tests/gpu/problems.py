"""Problems that kernels for GPUs are tried on: ragged sizes, windows, epilogues, kinds of elements, empty rows."""

from __future__ import annotations

from typing import Any

from tesa.schedules.types import Epilogue, Output, Problem, Window


def linear(m: int, k: int, n: int, batch: int = 1, **more: Any) -> Problem:
    """A linear layer."""
    return Problem("linear", m, k, n, (batch, k, n), (batch, m, n), batch, **more)


def conv(m: int, channels: int, window: Window, batch: int = 1, **more: Any) -> Problem:
    """A convolution of m output channels."""
    area, out = window.kernel[0] * window.kernel[1], (window.out_height, window.out_width)
    shapes = (batch, channels, window.height, window.width), (batch, m, *out)
    return Problem("conv2d", m, channels * area, out[0] * out[1], *shapes, batch, window, **more)


def depthwise(channels: int, window: Window, batch: int = 1, **more: Any) -> Problem:
    """A depthwise convolution."""
    area, out = window.kernel[0] * window.kernel[1], (window.out_height, window.out_width)
    shapes = (batch, channels, window.height, window.width), (batch, channels, *out)
    return Problem("depthwise", channels, area, out[0] * out[1], *shapes, batch, window, **more)


HALF: dict[str, Any] = {"dtype": "float16", "output": Output("float16")}
CODES: dict[str, Any] = {
    "dtype": "int8",
    "output": Output("uint8", 0.05, 3),
    "residual": Output("int8", 0.1, -4),
    "epilogue": Epilogue(bias=True, residual=True, activation="relu6", scale=True),
}
SUMS: dict[str, Any] = {"dtype": "int8", "output": Output("int32")}
ALL = Epilogue(bias=True, residual=True, activation="gelu")
WINDOWS = (
    Window(9, 11, (3, 3), (1, 1), (1, 1, 1, 1)),
    Window(10, 7, (3, 3), (2, 2), (0, 1, 1, 0)),
    Window(12, 12, (5, 3), (1, 2), (2, 0, 1, 3), (1, 2)),
    Window(8, 8, (1, 1), (2, 2)),
    Window(9, 9, (2, 2)),
)
"""Same size, stride with padding that is not the same on all sides, dilation, a 1x1 with a stride, no padding."""
