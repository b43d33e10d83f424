"""Every way to compute one weight: the kernel families with their configurations, and why others do not apply."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from tesa.attributes.patterns import classify
from tesa.base import display
from tesa.base.frames import frame
from tesa.base.keywords import helpful
from tesa.base.progress import Progress, automatic, telling
from tesa.base.scratch import Scratch
from tesa.choose.plan import Candidate
from tesa.choose.predict import expected, table_for
from tesa.decompose.candidates import Option, candidates, dense_keys, reasons
from tesa.kernels.request import Request, request
from tesa.records.log import Log
from tesa.schedules.registry import families, find
from tesa.schedules.types import Config, Problem, config_key
from tesa.tune.choose import choose


@dataclass(frozen=True)
class Form:
    """A kernel family with one configuration, or a family that does not apply.

    config: None where it does not apply, and then why_not says why. predicted_ms, measured_ms: of one call, None where
    unknown. dense: it computes with the zeros. bytes: of code and constants, known once it was built. note: what went
    wrong with it. summary: the family in a sentence.
    """

    family: str
    config: Config | None
    predicted_ms: float | None = None
    measured_ms: float | None = None
    dense: bool = False
    bytes: int | None = None
    note: str = ""
    why_not: str = ""
    summary: str = ""

    @property
    def applies(self) -> bool:
        """True where this family can compute the weight."""
        return self.config is not None


@dataclass(frozen=True)
class Forms(display.Displayed):
    """The forms of one weight, the fastest first, then the families that do not apply. It is a sequence of Form.

    pattern, sparsity: of the weight; target: its name.
    """

    problem: Problem
    pattern: str
    sparsity: float
    target: str
    forms: tuple[Form, ...]

    def __iter__(self) -> Iterator[Form]:
        return iter(self.forms)

    def __len__(self) -> int:
        return len(self.forms)

    def __getitem__(self, index: int) -> Form:
        return self.forms[index]

    @property
    def best(self) -> Form:
        """The fastest form: by measured times where there are some, else by the estimates."""
        return self.forms[0]

    @property
    def dense(self) -> Form | None:
        """The fastest form that computes with the zeros, which the others are compared with."""
        return next((form for form in self.forms if form.applies and form.dense), None)

    def to_pandas(self) -> Any:
        """A pandas.DataFrame of one row for each form. UsageError without pandas."""
        return frame([form.__dict__ | {"config": dict(form.config or {})} for form in self.forms])

    def plot(self, path: str | Path | None = None) -> Any:
        """A bar for each family that applies: the time of its best configuration, measured where it was, else expected.

        path: where to write it (.png, .svg, .pdf). UsageError where no family applies, and without matplotlib.
        """
        return display.picture(self, path=path)


@helpful("tesa.forms")
def forms(
    weight: ArrayLike,
    n: int | None = None,
    *,
    measure: bool = False,
    family: str | Sequence[str] | None = None,
    log: str | Path | Log | None = None,
    jobs: int | None = None,
    progress: Progress | None = automatic,
    **options: Any,
) -> Forms:
    """List every kernel family and configuration for a weight: does it apply, if not why, and how long it takes.

    weight, n and options: what is computed, as tesa.kernel describes it. measure=True builds each form, compares it
    with NumPy and times all in turn, which takes up to some minutes; records of a log are not measured again. family:
    these only. jobs: compiler processes. progress: what is told how far it is, by default a bar in a terminal or
    notebook; None for silence.

    Raises what tesa.kernel raises.

    >>> import numpy as np
    >>> found = forms(np.eye(64), n=1)
    >>> found.best.applies, [form.why_not for form in found if form.family == "unrolled"]
    (True, ['it needs 8 columns, and this has 1'])
    """
    asked = request(weight, n, **options)
    problem, matrix, target = asked.problem, asked.weight, asked.target
    table = table_for(target, problem.threads, log)
    names = None if family is None else [family] if isinstance(family, str) else list(family)
    why_not = {name: why for name, why in reasons(problem, matrix, target, names, table).items() if why}
    offered = candidates(problem, matrix, target, names, table) if len(why_not) < _count(names, target.kind) else []
    if measure:
        rows = _measured(asked, offered, log, jobs, progress)
    else:
        times, dense = expected(offered, problem, matrix, target, table), dense_keys(offered, matrix, target.kind)
        rows = [Candidate(*o, times[config_key(*o)], dense=config_key(*o) in dense) for o in offered]
    made = [_form(row, target.kind) for row in rows]
    made.sort(key=lambda form: (form.measured_ms is None, form.measured_ms or form.predicted_ms or 0.0))
    made += [Form(name, None, why_not=why, summary=find(name, target.kind).summary) for name, why in why_not.items()]
    pattern = classify(matrix)
    return Forms(problem, str(pattern), pattern.sparsity, target.name, tuple(made))


def _count(names: Sequence[str] | None, kind: str) -> int:
    return len(families(kind) if names is None else names)


def _measured(
    asked: Request,
    offered: Sequence[Option],
    log: str | Path | Log | None,
    jobs: int | None,
    progress: Progress | None,
) -> Sequence[Candidate]:
    """The candidates with their times, each compared with NumPy before."""
    if not offered:
        return []
    with telling(progress) as show, Scratch() as folder:
        (chosen,) = choose(
            [asked.layer], asked.target, log=log, jobs=jobs, options=offered, progress=show, folder=Path(folder)
        )
    return chosen.part.candidates


def _form(row: Candidate, kind: str) -> Form:
    return Form(
        row.family, row.config, row.predicted_ms, row.measured_ms, row.dense, row.bytes, row.note,
        summary=find(row.family, kind).summary,
    )  # fmt: skip
