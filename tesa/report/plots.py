"""Pictures: the masks of the weights, and what each layer gains."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.base.extras import install
from tesa.base.files import atomic_path
from tesa.choose.plan import Plan
from tesa.errors import UsageError
from tesa.report.numbers import counted, dims, milliseconds, percent, ratio
from tesa.report.style import GREY, neutral
from tesa.report.times import layer_times

_FORMATS = (".png", ".svg", ".pdf")
_PIXELS = 512


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


def plot_masks(weights: Mapping[str, NDArray[Any]], path: str | os.PathLike[str], title: str = "") -> None:
    """Draw each weight as draw_masks does, and write the picture to path. Errors as draw_masks and check_plot_path."""
    check_plot_path(path)
    save_figure(draw_masks(weights, title), path)


def draw_masks(weights: Mapping[str, NDArray[Any]], title: str = "") -> Any:
    """A figure of each weight to scale: black is not zero.

    weights: arrays by name, of any rank; the first axis goes down, all others are laid out to the right. All are drawn
    in one scale, as far as the largest fits and the smallest can be seen; those without a zero are small squares. A
    pixel that covers several elements is grey: the share of them that is not zero. title: above all.

    Raises UsageError for no weights, and without matplotlib.
    """
    if not weights:
        raise UsageError("there is no weight to draw: the model has no convolution or matrix product with a constant")
    boxes = [_box(weight, _scale(list(weights.values()))) for weight in weights.values()]
    places, width, height = flow([(box[0] + _GAP, box[1] + _LABEL) for box in boxes], _WIDTH)
    head = _HEAD if title else 0.1
    whole_width, whole_height = max(width, _LEAST) + _GAP, height + head + _FOOT
    figure = new_figure(whole_width, whole_height)
    figure.set_layout_engine("none")
    for (name, weight), (wide, high), (left, top) in zip(weights.items(), boxes, places, strict=True):
        bottom = whole_height - head - top - _LABEL - high
        axes = figure.add_axes(
            ((left + _GAP / 2) / whole_width, bottom / whole_height, wide / whole_width, high / whole_height)
        )
        _draw_mask(axes, f"{_short(name, wide)}\n{dims(weight.shape)}", weight)
    words = {"color": GREY, "va": "center", "parse_math": False}
    if title:
        figure.text(_GAP / 2 / whole_width, 1 - 0.22 / whole_height, title, fontsize=10, **words)
    legend = "black: not zero, white: zero, grey: a share of the elements under a pixel; one scale but for the smallest"
    figure.text(_GAP / 2 / whole_width, 0.16 / whole_height, legend, fontsize=7, **words)
    return figure


def _draw_mask(axes: Any, label: str, weight: NDArray[Any]) -> None:
    axes.imshow(density(weight), cmap="gray_r", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    neutral(axes, "")
    zeros = percent(1 - np.count_nonzero(weight) / weight.size) if weight.size else percent(None)
    axes.set_title(f"{label}\n{zeros} zeros", fontsize=6, loc="left", parse_math=False, pad=2, color=GREY)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)


_WIDTH, _LEAST, _LARGEST, _SMALLEST, _GAP, _LABEL, _HEAD, _FOOT = 12.0, 5.6, 2.4, 0.55, 0.35, 0.5, 0.45, 0.35  # inches


def _flat(weight: NDArray[Any]) -> tuple[int, int]:
    """Rows and columns of a weight as it is drawn."""
    if weight.ndim < 2:
        return 1, max(1, weight.size)
    return max(1, weight.shape[0]), max(1, weight.size // max(1, weight.shape[0]))


def _scale(weights: Sequence[NDArray[Any]]) -> float:
    """Inches of an element, so that the longest side of all is as long as a picture may be."""
    return _LARGEST / max(max(_flat(weight)) for weight in weights)


def _box(weight: NDArray[Any], scale: float) -> tuple[float, float]:
    """Width and height in inches; of a weight without zeros the least."""
    if weight.size and weight.all():
        return _SMALLEST, _SMALLEST
    rows, columns = _flat(weight)
    return max(_SMALLEST, columns * scale), max(_SMALLEST, rows * scale)


def _short(name: str, inches: float) -> str:
    """The end of a name that fits above a picture of that width; its beginning tells layers apart less."""
    most = max(9, int((inches + _GAP) / 0.052))
    return name if len(name) <= most else f"...{name[3 - most :]}"


def flow(boxes: Sequence[tuple[float, float]], width: float) -> tuple[list[tuple[float, float]], float, float]:
    """Boxes (width, height) from left to right in lines no wider than width: their (left, top), and the whole size.

    >>> flow([(2, 1), (2, 3), (2, 1)], 4)
    ([(0.0, 0.0), (2.0, 0.0), (0.0, 3.0)], 4.0, 4.0)
    """
    places, left, top, high, widest = [], 0.0, 0.0, 0.0, 0.0
    for wide, tall in boxes:
        if left and left + wide > width:
            left, top, high = 0.0, top + high, 0.0
        places.append((left, top))
        left, high = left + wide, max(high, tall)
        widest = max(widest, left)
    return places, float(widest), float(top + high)


def plot_speedups(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Draw a bar for each layer with a known gain: how many times faster than its dense self.

    Raises UsageError if the plan knows of no gain, and as plot_masks does.
    """
    check_plot_path(path)
    times = {layer.layer: layer_times(layer) for layer in plan.layers}
    gains = [(name, time.speedup, time.measured) for name, time in times.items() if time.speedup is not None]
    if not gains:
        raise UsageError("the plan knows no times to draw: compile without --no-measure")
    figure = new_figure(8, 1.4 + 0.28 * len(gains))
    axes = figure.add_subplot()
    places = range(len(gains))
    bars = axes.barh(places, [gain for _, gain, _ in gains], color=["C0" if known else "C7" for *_, known in gains])
    axes.bar_label(bars, [ratio(gain) for _, gain, _ in gains], padding=3, fontsize=8, color=GREY)
    axes.set_yticks(places, [name for name, *_ in gains], fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.axvline(1, color=GREY, linewidth=1)
    axes.margins(x=0.12)
    axes.set_xlabel("times as fast as dense; grey: estimated")
    neutral(axes, f"layers against their dense selves, {_where(plan)}", grid="x")
    save_figure(figure, path)


def plot_times(plan: Plan) -> Any:
    """A figure with a bar for each layer with a kernel: its time, its dense self behind it.

    Raises UsageError if the plan knows of no time, and without matplotlib.
    """
    rows = [(layer.layer, layer_times(layer)) for layer in plan.layers]
    known = [(name, time) for name, time in rows if time.chosen_ms is not None]
    if not known:
        raise UsageError("the plan knows no times to draw: none of its layers has a kernel")
    figure = new_figure(8, 1.6 + 0.24 * len(known))
    axes = figure.add_subplot()
    places = range(len(known))
    dense = [time.dense_ms or 0.0 for _, time in known]
    axes.barh(places, dense, color="#c0c0c0", height=0.8, label="dense self")
    axes.barh(places, [time.chosen_ms or 0.0 for _, time in known], color="C0", height=0.5, label="chosen kernel")
    axes.set_yticks(places, [name for name, _ in known], fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    source = "measured" if all(time.measured for _, time in known) else "estimated where nothing was measured"
    axes.set_xlabel(f"ms of one call, {source}")
    # below the bars, which may fill the axes
    figure.legend(fontsize=8, frameon=False, loc="outside lower right", ncols=2, labelcolor=GREY)
    total, whole = sum(time.chosen_ms or 0.0 for _, time in known), sum(dense)
    gain = f": {ratio(whole / total)} as fast as dense" if total and all(dense) else ""
    neutral(axes, f"{milliseconds(total)} ms in kernels{gain}; {_where(plan)}", grid="x")
    return figure


def _where(plan: Plan) -> str:
    return f"{plan.target}, {counted(plan.threads, 'thread')}"


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
        raise UsageError(f"pictures need matplotlib: {install('plot')}") from error
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
