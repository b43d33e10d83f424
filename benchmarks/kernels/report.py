"""What is printed and drawn of the rows of a run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.kernels.goals import Row, reached
from benchmarks.kernels.peers import PEERS
from benchmarks.tables import markdown


def print_row(row: Row) -> None:
    """One line: the case, tesa's time, the best peer, the ratio, GFLOP/s and the share of the limit."""
    peers = "  ".join(f"{name} {ms:.3f}" for name, ms in sorted(row["peers"].items(), key=lambda item: item[1]))
    share = f"{row['limit_fraction']:4.0%}" if row["limit_fraction"] is not None else "   -"
    ratio = f"{row['ratio']:5.2f}x" if row["ratio"] is not None else "    -"
    if "bandwidth_fraction" in row:
        share = f"{row['bandwidth_fraction']:4.0%} of bandwidth"
    least = row.get("ratio_min")  # on a machine that others use as well, least times say more than medians
    if least is not None:
        ratio += f" ({least:.2f}x of the least)"
    print(f"{row['group']} {row['case']:34} {row['tesa_ms']:8.3f} (min {row['tesa_min_ms']:.3f}, inner "
          f"{'-' if row['inner_ms'] is None else format(row['inner_ms'], '.3f')}) {ratio}  "
          f"{row['dense_gflops']:7.0f} {row['effective_gflops']:6.1f} GFLOP/s {share}  | {peers} | {row['kernel']}",
          flush=True)  # fmt: skip


def print_summary(rows: Sequence[Row], missing: Sequence[str] = ()) -> None:
    """Geometric mean and least ratio of each group, pattern and sparsity, then of what is wanted; the break-evens."""
    print("\ngroup  pattern                sparsity  cases  geomean  least")
    keys = dict.fromkeys((r["group"], r["pattern"], r["sparsity"]) for r in rows)
    for key in keys:
        ratios = [r["ratio"] for r in rows if (r["group"], r["pattern"], r["sparsity"]) == key and r["ratio"]]
        if ratios:
            mean = float(np.exp(np.mean(np.log(ratios))))
            print(f"{key[0]:6} {key[1]:22} {key[2]:7.0%} {len(ratios):6} {mean:8.2f} {min(ratios):6.2f}")
    print("\n" + markdown(["group", "cases", "mean", "least", "wanted", "met"], reached(rows)))
    for name, points in lines(rows).items():
        even = break_even(points)
        if even is not None:
            print(f"break-even of {name}: {even:.0%} of zeros")
    if missing:
        print(f"not installed: {', '.join(missing)}")


def lines(rows: Sequence[Row]) -> dict[str, list[tuple[float, float]]]:
    """Speed-up over the best dense peer by sparsity, for each shape and pattern, from the dense kernel on."""
    names = {peer.name for peer in PEERS if peer.dense}
    found: dict[str, list[tuple[float, float]]] = {}
    dense: dict[tuple[str, str], float] = {}
    for row in rows:
        times = [ms for name, ms in row["peers"].items() if name in names]
        if not times or row["group"] == "g":
            continue
        shape, gain = row["case"].split(" ")[0], min(times) / row["tesa_ms"]
        if row["pattern"] == "dense":
            dense[row["dtype"], shape] = gain
        else:
            name = f"{row['group']} {shape} {row['pattern'].split(' ')[0]}{' int8' if row['dtype'] == 'int8' else ''}"
            found.setdefault(name, []).append((row["sparsity"], gain))
    for name, points in found.items():
        first = dense.get(("int8" if name.endswith(" int8") else "float32", name.split(" ")[1]))
        if first is not None:
            points.append((0.0, first))
        points.sort()
    return dict(sorted(found.items()))


def break_even(points: Sequence[tuple[float, float]]) -> float | None:
    """The sparsity from which on a line stays above 1, between its points as a straight line of logarithms; None where
    it starts above 1 or ends below.

    >>> round(break_even([(0.0, 0.5), (0.5, 0.8), (0.9, 2.0)]), 2)
    0.6
    """
    for (low, before), (high, after) in reversed(list(pairwise(points))):
        if after < 1:
            return None
        if before < 1:
            share = np.log(before) / (np.log(before) - np.log(after))
            return float(low + share * (high - low))
    return None


def write_plot(rows: Sequence[Row], path: Path) -> None:
    """Speed-up over the best dense peer against sparsity, a line for each shape and pattern, crosses at break-even."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 6))
    for name, points in lines(rows).items():
        if len(points) > 1:
            drawn = axes.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1, label=name)
            even = break_even(points)
            if even is not None:
                axes.plot([even], [1.0], marker="x", color=drawn[0].get_color())
    axes.axhline(1.0, color="grey", linewidth=1, linestyle="--")
    axes.set(xlabel="share of zeros", ylabel="speed-up over the best dense peer", yscale="log")
    axes.legend(fontsize=4, ncols=3)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
