"""tesa report: a compiled model on one page of HTML, to send to a colleague."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tesa.cli.options import positive
from tesa.cli.verb import Outcome, Verb
from tesa.errors import UsageError

if TYPE_CHECKING:
    from tesa.report.page import Section
    from tesa.runtime.manifest import Manifest


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="model.so", help="a compiled model, or the model.json beside it")
    parser.add_argument("-o", "--output", metavar="OUT.html", help="the page to write (default: model.html)")
    parser.add_argument("--title", metavar="TEXT", help="above the page (default: the name of the model)")
    parser.add_argument("--bench", action="store_true", help="time the model here, and put that on the page")
    parser.add_argument("--vs", action="append", default=[], choices=("onnxruntime",), help="timed in turn with it")
    parser.add_argument("--model", dest="onnx", metavar="model.onnx", help="what the other engine runs")
    parser.add_argument("--repeat", type=positive, default=50, metavar="N", help="rounds of --bench (default: 50)")


def _run(args: Namespace) -> Outcome:
    from tesa.base.files import atomic_path
    from tesa.cli.explain import read_plans
    from tesa.report.numbers import size
    from tesa.report.page import page
    from tesa.runtime.manifest import read_manifest

    model = Path(args.model)
    path = Path(args.output) if args.output else model.with_suffix(".html")
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{path}: the report is a page of HTML; give a name that ends in .html")
    plans = read_plans(model)
    manifest = read_manifest(model.with_suffix(".json"))
    library = model.with_suffix(f".{manifest.library.get('format', 'so')}")
    about = dict(zip(plans, _about(manifest, library), strict=True))
    sections = [_timed(args, library, not manifest.library)] if args.bench or args.vs else []
    text = page(args.title or model.stem, plans, about=about, sections=sections, versions=manifest.versions)
    with atomic_path(path) as aside:
        aside.write_text(text, encoding="utf-8")
    told = f"wrote {path} ({size(path.stat().st_size)})"
    return Outcome({"path": str(path), "bytes": path.stat().st_size}, lambda: [told])


def _about(manifest: Manifest, library: Path) -> Iterator[list[tuple[str, str]]]:
    """For each size of a model what goes in and comes out, and what is shipped."""
    from tesa.report.numbers import dims, size

    for one in manifest.sizes:
        rows = [
            (name, ", ".join(f"{port.name} {port.dtype} {dims(port.shape)}" for port in ports))
            for name, ports in (("inputs", one.inputs), ("outputs", one.outputs))
        ]
        if library.is_file():
            rows.append(("file", f"{library.name}, {size(library.stat().st_size)}"))
        if manifest.needs:
            rows.append(("needs", "a CPU with " + ", ".join(manifest.needs)))
        yield rows


def _timed(args: Namespace, library: Path, layers: bool) -> Section:
    """The times of a model here, of its layers where they can be watched, and of the other engine."""
    from tesa import runtime
    from tesa.report.bench import bench_view
    from tesa.report.page import Section
    from tesa.runtime.bench import onnx_beside

    source = args.onnx or (onnx_beside(library) if args.vs else None)
    model = runtime.load(library)
    result = runtime.bench(model, repeat=args.repeat, peers=args.vs, onnx=source, profile=layers)
    return Section("Measured on the machine that made this page", tuple(bench_view(result)))


VERB = Verb(
    name="report",
    help="write one page of HTML about a compiled model: its plan, pictures, reasons and times",
    examples=(
        ("tesa report model.so", "writes model.html, which needs no other file"),
        ("tesa report model.so --bench --vs onnxruntime -o for_you.html", "with times, next to onnxruntime"),
    ),
    arguments=_arguments,
    run=_run,
)
