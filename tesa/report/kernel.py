"""One kernel as HTML, for a notebook: its mask as a picture, what it computes, and what it competed with."""

import base64
import struct
import zlib
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.choose.plan import LayerPlan
from tesa.report.html import STYLE, html_table
from tesa.report.numbers import dims, milliseconds, percent
from tesa.report.plots import density
from tesa.report.times import chosen

_PIXELS = 256


def kernel_html(layer: LayerPlan, weight: NDArray[Any], facts: str) -> str:
    """An HTML fragment. weight: as the picture shows it, the first axis downwards. facts: target and threads."""
    part = layer.parts[0]
    after = f", {layer.epilogue}" if layer.epilogue else ""
    head = f"{layer.op} {dims(layer.shape)}, {layer.pattern}, {percent(layer.sparsity)} zeros{after}"
    ordered = sorted(part.candidates, key=lambda row: row.measured_ms or row.predicted_ms or float("inf"))
    rows, taken = [], chosen(part)
    for row in ordered:
        config = " ".join(f"{name}={value}" for name, value in row.config.items())
        times = ("" if ms is None else milliseconds(ms) for ms in (row.measured_ms, row.predicted_ms))
        rows.append((row.family, config, *times, row.note))
    columns = ("kernel", "configuration", "measured, ms", "estimate, ms", "note")
    best = next((place for place, row in enumerate(ordered) if row is taken), None)
    shown = html_table(columns, rows, right=columns[2:4], chosen=best)
    said = [head, facts, part.reason]
    if part.kernel:
        split = [f"{p.pattern} ({p.bits} bits, {p.nonzeros} non-zeros) by {p.kernel}" for p in layer.parts]
        said.insert(2, f"{part.family}: {' + '.join(split)}")
    lines = [f"<b>{escape(said[0])}</b>", *map(escape, said[1:])]
    return (
        f'<div class="tesa">{STYLE}<div>{"<br>".join(lines)}</div>'
        f'<div style="display:flex;flex-wrap:wrap;gap:1em;align-items:flex-start">{picture(weight)}{shown}</div></div>'
    )


def picture(weight: NDArray[Any]) -> str:
    """The mask of a weight as an HTML image: black where every element under a pixel is non-zero, white where none is.

    >>> picture(np.eye(3)).startswith('<img src="data:image/png;base64,')
    True
    """
    shade = np.rint(255 * (1 - density(weight, _PIXELS))).astype(np.uint8)
    height, width = shade.shape
    scale = max(1, _PIXELS // max(height, width))
    data = base64.b64encode(png(shade)).decode()
    style = "image-rendering:pixelated;border:1px solid #888"
    size = f'width="{width * scale}" height="{height * scale}"'
    return f'<img src="data:image/png;base64,{data}" {size} style="{style}" alt="mask of the weight">'


def png(grey: NDArray[np.uint8]) -> bytes:
    """A PNG file of a grey picture (height, width): PNG specification, third edition, sections 5 and 11."""
    height, width = grey.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), grey], axis=1)  # each line behind its filter, 0 for none

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
