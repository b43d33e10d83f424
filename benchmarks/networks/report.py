"""What is printed and drawn of the contests of a run: two tables in Markdown, and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.networks.catalogue import NETWORKS
from benchmarks.networks.pruning import parse_sparsity
from benchmarks.tables import markdown
from tesa.report.plots import new_figure, save_figure

Contest = Mapping[str, Any]
Entry = Mapping[str, Any]
OURS = "tesa"
COLORS = {"ours": "C0", "peer": "C7"}
FAR = {"float32": 1e-3, "int8": 0.2, "dynamic": 0.2}
"""A peer that is farther from onnxruntime without optimization than this, by the largest number, is marked.

Integers: a tie that is rounded the other way is passed on, and U-Net makes 0.13 of it in every engine, tesa's, too."""


def tables(contests: Sequence[Contest]) -> str:
    """tesa beside the best peer, then all peers, then what did not run."""
    parts = [markdown(_GAIN_HEAD, [row for contest in contests for row in gains(contest)])]
    peers = [row for contest in contests for row in _peers(contest)]
    if peers:
        parts.append(markdown(_PEER_HEAD, peers))
    parts += ["\n".join(lines)] if (lines := [line for contest in contests for line in notes(contest)]) else []
    return "\n\n".join(parts)


_GAIN_HEAD = ["network", "batch, threads", "zeros", "precision", "tesa, ms", "best peer, ms", "ratio", "over its dense"]
_PEER_HEAD = ["network", "batch, threads", "peer", "precision", "least, ms", "median, ms", "off by"]


def gains(contest: Contest) -> Iterator[list[str]]:
    """A row for each form of tesa: its least time and the best peer's, of float32 peers for float32, else of all."""
    dense = {e["precision"]: e["min_ms"] for e in timed(contest, OURS) if e["sparsity"] == "dense"}
    for entry in timed(contest, OURS):
        best = best_peer(contest, entry["precision"])
        row = [*_place(contest), parse_sparsity(entry["sparsity"]).label, entry["precision"], ms(entry["min_ms"])]
        row.append(f"{ms(best['min_ms'])} ({_called(best)})" if best else "")
        row.append(f"{best['min_ms'] / entry['min_ms']:.2f}x" if best else "")
        own = dense.get(entry["precision"])
        row.append(f"{own / entry['min_ms']:.2f}x" if own and entry["sparsity"] != "dense" else "")
        yield row


def best_peer(contest: Contest, precision: str) -> Entry | None:
    """The fastest peer that a form of tesa is held against: any for integers, which are there for speed."""
    peers = [e for e in timed(contest) if e["engine"] != OURS and not _far(e)]
    if precision == "float32":
        peers = [e for e in peers if e["precision"] == "float32"]
    return min(peers, key=lambda e: e["min_ms"], default=None)


def timed(contest: Contest, engine: str | None = None) -> list[Entry]:
    """The entries that have a time."""
    return [e for e in contest["entries"] if e["min_ms"] is not None and engine in (None, e["engine"])]


def _peers(contest: Contest) -> Iterator[list[str]]:
    for entry in timed(contest):
        if entry["engine"] != OURS:
            off = f"{entry['error']:.0e}{' !' if _far(entry) else ''}"
            yield [
                *_place(contest), entry["engine"], entry["precision"], ms(entry["min_ms"]), ms(entry["median_ms"]), off,
            ]  # fmt: skip


def _far(entry: Entry) -> bool:
    return not entry["error"] <= FAR[entry["precision"]]


def notes(contest: Contest) -> Iterator[str]:
    """What did not run, rates, and how long compiling took."""
    name = f"{NETWORKS[contest['network']].title}, batch {contest['batch']}, {contest['threads']} thread(s)"
    for entry in contest["entries"]:
        if entry["why"]:
            yield f"{name}: {entry['engine']} {entry['precision']} {entry['sparsity']}: {entry['why']}"
    unit = NETWORKS[contest["network"]].unit
    if unit:
        rates = [f"{_named(e)} {1000 * contest['batch'] / e['min_ms']:.0f}" for e in timed(contest)]
        yield f"{name}: {unit} per second: {', '.join(rates)}"
    spent = [f"{e['precision']} {e['sparsity']} {e['compile_s']:.0f} s" for e in contest["entries"] if e["compile_s"]]
    if spent:
        yield f"{name}: compiled in {', '.join(spent)}"


def _place(contest: Contest) -> list[str]:
    return [NETWORKS[contest["network"]].title, f"{contest['batch']}, {contest['threads']}"]


def _called(entry: Entry) -> str:
    return f"{entry['engine']} {entry['precision']}"


def _named(entry: Entry) -> str:
    """The entry as the picture and the list of rates call it."""
    if entry["engine"] != OURS:
        return _called(entry)
    return f"{OURS} {entry['precision']}, {parse_sparsity(entry['sparsity']).label}"


def ms(value: float) -> str:
    """Milliseconds in three digits.

    >>> ms(0.01234), ms(1.234), ms(123.4)
    ('0.0123', '1.23', '123')
    """
    digits = max(0, 2 - len(str(int(value))) + 1) if value >= 1 else 4 if value < 0.1 else 3
    return f"{value:.{digits}f}"


def layer_table(entry: Entry, most: int = 25) -> str:
    """Where the time goes: sums by kind and kernel, then the slowest operators of one entry of tesa."""
    total = sum(row["ms"] for row in entry["layers"]) or 1.0
    sums: dict[str, list[float]] = {}
    for row in entry["layers"]:
        sums.setdefault(row["kernel"] or row["kind"], []).append(row["ms"])
    ordered = sorted(sums.items(), key=lambda item: -sum(item[1]))
    kinds = [[name, str(len(t)), ms(sum(t)), f"{sum(t) / total:.0%}"] for name, t in ordered]
    slowest = sorted(entry["layers"], key=lambda row: -row["ms"])[:most]
    rows = [
        [row["layer"], row["symbol"][:40], "x".join(map(str, row["shape"])), row["kernel"], ms(row["ms"]),
         f"{row['ms'] / total:.1%}"]
        for row in slowest
    ]  # fmt: skip
    head = ["operator", "function", "m x k x n", "kernel", "ms", "share"]
    return markdown(["kernels", "calls", "ms", "share"], kinds) + "\n\n" + markdown(head, rows)


def draw(contests: Sequence[Contest], path: Path) -> None:
    """A panel for each network: bars of the least times of tesa's forms and of the best peers.

    Of several batches and numbers of threads the first ones are drawn.
    """
    first = {}
    for contest in contests:
        if timed(contest, OURS):
            first.setdefault(contest["network"], contest)
    bars = {name: _bars(contest) for name, contest in first.items()}
    columns = min(2, len(bars))
    rows = -(-len(bars) // columns)
    names = list(bars)
    tallest = [max(len(bars[name]) for name in names[row * columns : (row + 1) * columns]) for row in range(rows)]
    figure = new_figure(6.0 * columns, sum(0.9 + 0.24 * count for count in tallest))
    grid = figure.add_gridspec(rows, columns, height_ratios=[0.9 + 0.24 * count for count in tallest])
    for place, name in enumerate(names):
        contest = first[name]
        axes = figure.add_subplot(grid[place // columns, place % columns])
        labels, times, colors = zip(*bars[name], strict=True)
        drawn = axes.barh(range(len(times)), times, color=colors)
        axes.bar_label(drawn, [ms(value) for value in times], padding=3, fontsize=8)
        axes.set_yticks(range(len(times)), labels, fontsize=8, parse_math=False)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_xlabel("ms", fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        axes.set_title(f"{NETWORKS[name].title}: batch {contest['batch']}, {contest['threads']} thread(s)", fontsize=9)
    figure.get_layout_engine().set(wspace=0.06)
    save_figure(figure, path)


def _bars(contest: Contest) -> list[tuple[str, float, str]]:
    """Label, time and colour: of each precision the best peer, then tesa's forms."""
    found = []
    for precision in dict.fromkeys(e["precision"] for e in contest["entries"]):
        peers = [e for e in timed(contest) if e["engine"] != OURS and e["precision"] == precision and not _far(e)]
        if peers:
            best = min(peers, key=lambda e: e["min_ms"])
            found.append((_called(best), best["min_ms"], COLORS["peer"]))
        ours = [e for e in timed(contest, OURS) if e["precision"] == precision]
        found += [(_named(e), e["min_ms"], COLORS["ours"]) for e in ours]
    return found
