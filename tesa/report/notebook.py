"""The looks of tesa's values, registered for tesa.base.display: HTML for notebooks, text for print, pictures."""

from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from tesa.analyze.analysis import Analysis
from tesa.analyze.inspection import Inspection
from tesa.attributes.patterns.registry import Pattern
from tesa.base.display import plots, renders, writes
from tesa.base.listing import Listing
from tesa.choose.plan import LayerPlan, Plan
from tesa.compiler import CompiledModel
from tesa.compress import Pruned
from tesa.compress.quantize import Quantized
from tesa.doctor.checks import Diagnosis
from tesa.explore import Explored
from tesa.kernels.comparison import KernelComparison
from tesa.kernels.compiled import Kernel
from tesa.kernels.forms import Forms
from tesa.kernels.roofline import Roofline
from tesa.kernels.sweep import Sweep
from tesa.measure.remote.health import Devices
from tesa.measure.timing import Timing
from tesa.propagate.explain import Explanation
from tesa.propagate.model import TesaModel, WeightFacts
from tesa.report.analyze import analysis_view
from tesa.report.bench import bench_view
from tesa.report.calibrate import calibration_view
from tesa.report.devices import devices_view
from tesa.report.doctor import diagnosis_view
from tesa.report.exploration import exploration_view, plot_explored
from tesa.report.html import page_part
from tesa.report.inspection import inspection_view
from tesa.report.kernel import kernel_html
from tesa.report.kernel_plots import plot_comparison, plot_forms, plot_mask, plot_roofline, plot_sweep
from tesa.report.kernels import comparison_view, forms_view, roofline_view, sweep_view, timing_view
from tesa.report.listings import listing_html
from tesa.report.numbers import counted, dims, percent
from tesa.report.picture import Picture
from tesa.report.plan import compiled_view, explanation, left_out, plan_table
from tesa.report.plots import draw_masks, plot_times
from tesa.report.propagation import propagation_table
from tesa.report.propagation_plot import plot_propagation
from tesa.report.pruning import pruning_view
from tesa.report.quantization import quantization_view
from tesa.report.tune import tuned_view
from tesa.report.tuning_plot import plot_tuned
from tesa.report.verify import verify_view
from tesa.report.written import written
from tesa.runtime.bench import BenchResult
from tesa.runtime.comparison import VerifyResult
from tesa.tune.calibrate import Calibration
from tesa.tune.status import Tuned

View = Callable[[Any], Iterable[RenderableType]]


def _look(kind: type, view: View) -> None:
    """Register a class: what the view yields is its HTML and its text."""
    renders(kind)(lambda value: page_part(view(value)))
    writes(kind)(lambda value: written(view(value)))


def _plan(plan: Plan) -> Iterator[RenderableType]:
    yield plan_table(plan)
    yield from map(Text, left_out(plan))


def _facts(facts: WeightFacts) -> Iterator[RenderableType]:
    zeros = f"{percent(facts.given_sparsity)} zeros in the file, {percent(facts.sparsity)} after propagation"
    yield Text(f"{facts.layer}: {facts.op} {dims(facts.weight.shape)}, {zeros}", style="bold")
    yield from (Text(f"  {fact}") for fact in facts.facts)


def _lines(found: Explanation) -> Iterator[RenderableType]:
    head, *rest = str(found).splitlines()
    yield Text(head, style="bold")
    yield from map(Text, rest)


def _pattern(pattern: Pattern) -> Iterator[RenderableType]:
    least, middle, most = pattern.row_nnz
    yield Text(f"{pattern}, {dims(pattern.shape)}", style="bold")
    yield Text(
        f"{percent(pattern.sparsity)} zeros, {pattern.nonzeros} non-zeros; of a row {least} to {most}, median {middle}"
    )
    yield Text(f"rows with a non-zero: {pattern.rows}; columns: {pattern.columns}")


def _propagated(model: TesaModel) -> Iterator[RenderableType]:
    yield from propagation_table(model).view()


for _kind, _view in (
    (Plan, _plan),
    (LayerPlan, lambda layer: explanation(layer, None)),
    (CompiledModel, compiled_view),
    (Timing, timing_view),
    (Inspection, inspection_view),
    (Analysis, analysis_view),
    (VerifyResult, verify_view),
    (BenchResult, bench_view),
    (WeightFacts, _facts),
    (TesaModel, _propagated),
    (Tuned, tuned_view),
    (Calibration, calibration_view),
    (Pruned, pruning_view),
    (Quantized, quantization_view),
    (Explored, exploration_view),
    (Devices, devices_view),
    (Diagnosis, diagnosis_view),
    (Explanation, _lines),
    (Pattern, _pattern),
    (Forms, forms_view),
    (Sweep, sweep_view),
    (KernelComparison, comparison_view),
    (Roofline, roofline_view),
):
    _look(_kind, _view)

renders(Listing)(listing_html)
writes(Kernel)(repr)
plots(Kernel)(plot_mask)
plots(Plan)(lambda plan, path=None: Picture(plot_times(plan), path))
plots(Forms)(plot_forms)
plots(KernelComparison)(plot_comparison)
plots(Sweep)(plot_sweep)
plots(Tuned)(plot_tuned)
plots(Explored)(plot_explored)
plots(Roofline)(plot_roofline)
plots(TesaModel)(plot_propagation)


@plots(Inspection)
def masks(found: Inspection, path: str | PathLike[str] | None = None) -> Picture:
    """The weights of a model to scale."""
    return Picture(draw_masks(found.weights, f"{Path(found.source).name}: the weights of its layers"), path)


@renders(TesaModel)
def propagated(model: TesaModel) -> str:
    """The table of what propagation has found, layer by layer."""
    return str(propagation_table(model)._repr_html_())


@renders(Kernel)
def kernel(value: Kernel) -> str:
    """The kernel's mask as a picture, what it computes and what it competed with."""
    return kernel_html(value.plan, value.weight, f"{value.target.name}, {counted(value.problem.threads, 'thread')}")
