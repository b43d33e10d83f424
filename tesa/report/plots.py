"""Pictures: the masks of the weights, and what each layer gains."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.base.files import atomic_path
from tesa.choose.plan import Plan
from tesa.errors import UsageError
from tesa.report.numbers import dims, percent, ratio
from tesa.report.times import layer_times

_FORMATS = (".png", ".svg", ".pdf")
_COLUMNS, _CELL_INCHES, _PIXELS = 4, 3.0, 512


def check_plot_path(path: str | os.PathLike[str]) -> None:
    """Raise before any work is done: UsageError for a format that is not drawn, and without matplotlib.

    >>> check_plot_path("masks.bmp")
    Traceback (most recent call last):
    ...
    tesa.errors.UsageError: cannot draw masks.bmp: the name must end in .png, .svg or .pdf
    """
    if Path(path).suffix.lower() not in _FORMATS:
        raise UsageError(f"cannot draw {os.fspath(path)}: the name must end in .png, .svg or .pdf")
    _matplotlib()


def plot_masks(weights: Mapping[str, NDArray[Any]], path: str | os.PathLike[str]) -> None:
    """Draw each weight as a picture in a grid and write it to path: black is not zero.

    weights: arrays by name, of any rank; the first axis goes down, all others are laid out to the right. A weight that
    has more elements than the picture has pixels is shown in grey: the share of a pixel's elements that is not zero.

    Raises UsageError for no weights, for a path that cannot be written, and without matplotlib.
    """
    check_plot_path(path)
    if not weights:
        raise UsageError("there is no weight to draw: the model has no convolution or matrix product with a constant")
    columns = min(len(weights), _COLUMNS)
    rows = math.ceil(len(weights) / columns)
    figure = new_figure(columns * _CELL_INCHES, rows * _CELL_INCHES)
    for place, (name, weight) in enumerate(weights.items(), start=1):
        axes = figure.add_subplot(rows, columns, place)
        picture = density(weight)
        axes.imshow(picture, cmap="gray_r", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        zeros = percent(1 - np.count_nonzero(weight) / weight.size) if weight.size else percent(None)
        axes.set_title(f"{name}\n{dims(weight.shape)}, {zeros} zeros", fontsize=7, parse_math=False)
        axes.set_xticks([])
        axes.set_yticks([])
    save_figure(figure, path)


def plot_speedups(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Draw a bar for each layer with a known gain: how many times faster than its dense self.

    Raises UsageError if the plan knows of no gain, and as plot_masks does.
    """
    check_plot_path(path)
    times = {layer.layer: layer_times(layer) for layer in plan.layers}
    gains = [(name, time.speedup, time.measured) for name, time in times.items() if time.speedup is not None]
    if not gains:
        raise UsageError("the plan knows no times to draw: compile without --no-measure")
    figure = new_figure(8, 1.2 + 0.28 * len(gains))
    axes = figure.add_subplot()
    places = range(len(gains))
    bars = axes.barh(places, [gain for _, gain, _ in gains], color=["C0" if known else "C7" for *_, known in gains])
    axes.bar_label(bars, [ratio(gain) for _, gain, _ in gains], padding=3, fontsize=8)
    axes.set_yticks(places, [name for name, *_ in gains], fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=1)
    axes.margins(x=0.12)
    axes.set_xlabel(f"times as fast as dense ({plan.target}, {plan.threads} threads; grey: estimated)")
    save_figure(figure, path)


def density(weight: NDArray[Any], most: int = _PIXELS) -> NDArray[np.float64]:
    """A matrix of at most `most` x `most`: the share of non-zeros among the elements that fall on each pixel.

    >>> density(np.array([[0, 2, 0, 0], [1, 3, 0, 0]]), most=2).tolist()
    [[0.5, 0.0], [1.0, 0.0]]
    """
    if not weight.size:
        return np.zeros((1, 1))
    matrix = (weight.reshape(weight.shape[0], -1) if weight.ndim > 1 else weight.reshape(1, -1)) != 0
    return _pool(_pool(matrix.astype(np.float64), most).T, most).T


def _pool(matrix: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Mean over groups of rows, as even as they can be."""
    count = matrix.shape[0]
    if count <= most:
        return matrix
    starts = np.arange(most) * count // most
    sums: NDArray[np.float64] = np.add.reduceat(matrix, starts, axis=0)
    return sums / np.diff(np.append(starts, count))[:, None]


def _matplotlib() -> Any:
    try:
        import matplotlib.figure
    except ImportError as error:
        raise UsageError("pictures need matplotlib: pip install 'tesa[plot]'") from error
    return matplotlib.figure


def new_figure(width: float, height: float) -> Any:
    """A figure of its own, apart from pyplot: no window, no global state."""
    return _matplotlib().Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure in the format that the name says, whole or not at all, the same bytes every time."""
    form = Path(path).suffix.lower().removeprefix(".")
    metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
    import matplotlib

    with atomic_path(path) as aside, matplotlib.rc_context({"svg.hashsalt": "tesa"}):  # the same ids every time
        figure.savefig(aside, format=form, dpi=150, metadata=metadata)
