"""A compiled model on one page of HTML that needs no other file: to send, to read on a phone, to print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import Any

import matplotlib
from rich.console import RenderableType
from rich.text import Text

from tesa.choose.plan import Plan
from tesa.errors import UsageError
from tesa.report.html import STYLE, html_table, page_part
from tesa.report.numbers import counted, footprint, milliseconds, ratio
from tesa.report.plan import explanation, left_out, plan_table
from tesa.report.plots import plot_times
from tesa.report.times import layer_times

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
{style}
<style>
:root {{ color-scheme: light dark; }}
body {{ font-family: system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem; line-height: 1.45; }}
h1 {{ font-size: 1.5rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid rgba(128, 128, 128, .5); }}
figure {{ margin: 0; overflow-x: auto; }}
figure svg {{ width: 100%; min-width: 34rem; max-width: 52rem; height: auto; }}
section > details {{ margin: .3rem 0; }}
summary {{ cursor: pointer; overflow-wrap: anywhere; }}
@media print {{
  body {{ max-width: none; padding: 0; font-size: 9pt; }}
  .tesa {{ font-size: 8pt; }}
  .tesa .scroll, figure {{ overflow: visible; }}
  figure svg {{ width: auto; min-width: 0; max-width: 100%; max-height: 14cm; }}
  .tesa.tesa.tesa table tr th, .tesa.tesa.tesa table tr td {{ padding-right: .5em; overflow-wrap: anywhere; }}
  tr, figure {{ break-inside: avoid; }}
  h2, summary {{ break-after: avoid; }}
  details::details-content {{ content-visibility: visible; height: auto; }}
}}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
<script>
// Paper cannot be unfolded.
let folded = [];
addEventListener("beforeprint", () => {{
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const one of folded) one.open = true;
}});
addEventListener("afterprint", () => {{
  for (const one of folded) one.open = false;
}});
</script>
</body>
</html>
"""


@dataclass(frozen=True)
class Section:
    """A part of the page: what a terminal would show."""

    title: str
    parts: tuple[RenderableType, ...]


def page(
    title: str,
    plans: Mapping[str, Plan],
    *,
    about: Mapping[str, Sequence[tuple[str, str]]] | None = None,
    sections: Sequence[Section] = (),
    versions: Mapping[str, str] | None = None,
) -> str:
    """The page of a compiled model as one HTML document.

    plans: by the size of the inputs, which is "" for the only one. about: rows of two for
    each size, of what else is known of it. sections: further ones, behind the plan. versions: of what made the model.
    """
    body = []
    for size, plan in plans.items():
        at = f" at {size}" if size else ""
        rows = [*(about or {}).get(size, ()), *_facts(plan)]
        body.append(_section(f"At a glance{at}", html_table(("", ""), rows) + _picture(plan)))
        body.append(_section(f"Layers{at}", page_part([plan_table(plan), *map(Text, left_out(plan))], style=False)))
    body += [_section(one.title, page_part(one.parts, style=False)) for one in sections]
    for size, plan in plans.items():
        at = f" at {size}" if size else ""
        folded = "".join(_folded(layer.layer, explanation(layer, plan)) for layer in plan.layers if layer.parts)
        body.append(_section(f"Why each layer got its kernel{at}", folded or "<p>None has one of its own.</p>"))
    if versions:
        body.append(_section("Made with", html_table(("package", "version"), list(versions.items()))))
    return _PAGE.format(title=escape(title), style=STYLE, body="\n".join(body))


def _section(title: str, html: str) -> str:
    return f'<section class="tesa"><h2>{escape(title)}</h2>{html}</section>'


def _folded(title: str, parts: Iterable[RenderableType]) -> str:
    return f"<details><summary>{escape(title)}</summary>{page_part(parts, style=False)}</details>"


def _facts(plan: Plan) -> list[tuple[str, str]]:
    times = [layer_times(layer) for layer in plan.layers if layer.parts]
    rows = [
        ("target", f"{plan.target}, {counted(plan.threads, 'thread')}"),
        ("layers", f"{len(plan.layers)}, of which {len(times)} have a kernel of their own"),
    ]
    known = [time for time in times if time.chosen_ms is not None]
    if known:
        said = f"{milliseconds(sum(time.chosen_ms or 0.0 for time in known))} ms in these kernels"
        both = [time for time in known if time.dense_ms is not None]
        if both:
            gain = sum(time.dense_ms or 0.0 for time in both) / sum(time.chosen_ms or 0.0 for time in both)
            said += f", {ratio(gain)} the speed of their dense selves"
        rows.append(("time", said + ("" if all(time.measured for time in known) else ", some of it estimated")))
    if plan.footprint.total:
        rows.append(("kernels", footprint(plan.footprint)))
    return rows


def _picture(plan: Plan) -> str:
    """The times of the layers as SVG; nothing where none is known."""
    try:
        figure = plot_times(plan)
    except UsageError:
        return ""
    return f"<figure>{_svg(figure)}</figure>"


def _svg(figure: Any) -> str:
    stream = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "tesa", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
