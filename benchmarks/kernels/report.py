"""What is printed and drawn of the rows of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kernels.run import Session

Row = dict[str, Any]


def print_row(row: Row) -> None:
    """One line: the case, tesa's time, the best peer, the ratio, GFLOP/s and the share of the limit."""
    peers = "  ".join(f"{name} {ms:.3f}" for name, ms in sorted(row["peers"].items(), key=lambda item: item[1]))
    share = f"{row['limit_fraction']:4.0%}" if row["limit_fraction"] is not None else "   -"
    ratio = f"{row['ratio']:5.2f}x" if row["ratio"] is not None else "    -"
    if "bandwidth_fraction" in row:
        share = f"{row['bandwidth_fraction']:4.0%} of bandwidth"
    print(f"{row['group']} {row['case']:34} {row['tesa_ms']:8.3f} (min {row['tesa_min_ms']:.3f}, inner "
          f"{'-' if row['inner_ms'] is None else format(row['inner_ms'], '.3f')}) {ratio}  "
          f"{row['dense_gflops']:7.0f} {row['effective_gflops']:6.1f} GFLOP/s {share}  | {peers} | {row['kernel']}",
          flush=True)  # fmt: skip


def print_summary(rows: Sequence[Row], session: Session) -> None:
    """Geometric mean and least ratio of each group, pattern and sparsity."""
    print("\ngroup  pattern                sparsity  cases  geomean  least")
    keys = dict.fromkeys((r["group"], r["pattern"], r["sparsity"]) for r in rows)
    for key in keys:
        ratios = [r["ratio"] for r in rows if (r["group"], r["pattern"], r["sparsity"]) == key and r["ratio"]]
        if ratios:
            mean = float(np.exp(np.mean(np.log(ratios))))
            print(f"{key[0]:6} {key[1]:22} {key[2]:7.0%} {len(ratios):6} {mean:8.2f} {min(ratios):6.2f}")
    if session.missing:
        print(f"not installed: {', '.join(session.missing)}")


def write_plot(rows: Sequence[Row], path: Path) -> None:
    """Speed-up over the best dense peer against sparsity, a line for each shape; where it crosses 1 is break-even."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 6))
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        dense = [
            ms for name, ms in row["peers"].items() if name.split()[0] in ("onnxruntime", "openvino") or name == "torch"
        ]
        if dense and row["group"] != "g":
            lines.setdefault(f"{row['group']} {row['case'].split(' ')[0]} {row['pattern']}", []).append(
                (row["sparsity"], min(dense) / row["tesa_ms"])
            )
    for name, points in sorted(lines.items()):
        if len(points) > 1:
            axes.plot(*zip(*sorted(points), strict=True), marker="o", markersize=3, linewidth=1, label=name)
    axes.axhline(1.0, color="grey", linewidth=1, linestyle="--")
    axes.set(xlabel="share of zeros", ylabel="speed-up over the best dense peer", yscale="log")
    axes.legend(fontsize=6, ncols=2)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
