"""Results show themselves as tables and lines, in a notebook and where they are printed; tuning draws its curve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.columns import Columns

import tesa
from tesa.analyze.analysis import analyze_model
from tesa.attributes.patterns import classify
from tesa.base.hostinfo import read_cpu
from tesa.compress import prune
from tesa.doctor.check import FAILED, Check
from tesa.doctor.checks import Diagnosis
from tesa.errors import UsageError
from tesa.explore.choices import Choice
from tesa.explore.result import Explored, LayerChoice, Point
from tesa.frontend import import_onnx
from tesa.measure.remote.address import Address
from tesa.measure.remote.health import BROKEN, FREE, Device, Devices
from tesa.models import digits_channels_path, digits_path
from tesa.propagate import propagate
from tesa.propagate.explain import explain
from tesa.report.html import page_part
from tesa.report.propagation import propagation_table
from tesa.report.tuning_plot import best_so_far
from tesa.runtime import Comparison, VerifyResult
from tesa.tune.status import Tuned, TunedLayer

CURVE = (None, 0.5, 0.6, 0.4, 0.45)
DONE = TunedLayer("fc", 3, 5, 1, 90, ("dense", {"rows": 4}), 0.5, ("indexed", {"rows": 2}), 0.4, 0.5, True, curve=CURVE)
TUNED = Tuned("x86:haswell", 1, {"cpu": "haswell"}, (DONE,), 5, 9.0, ("a device is gone",))


def explored() -> Explored:
    config = {"fc": Choice(32)}
    points = tuple(
        Point(config, error, None, None, ms, 0.5, "test") for error, ms in ((0.1, 2.0), (0.2, 1.0), (0.3, 1.5))
    )
    layers = (LayerChoice("fc", config["fc"], 2.0, 1.0, 0.2),)
    return Explored("net.onnx", "x86", points[1], layers, points, None, 2.0, 1.2, None, 3, 1.0)


def checked(value: object, *pieces: str) -> None:
    """Whether a value is no dump of its fields: with the pieces in text and HTML, and not wider than a page."""
    text, html = str(value), value._repr_html_()  # type: ignore[attr-defined]
    assert f"{type(value).__name__}(" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert html.startswith('<div class="tesa">')
    for piece in pieces:
        assert piece in text
        assert piece in html


def test_what_tuning_and_exploring_found() -> None:
    checked(TUNED, "fc (x3)", "1.25x", "a device is gone")
    checked(explored(), "fc", "chosen")


def test_what_pruning_did() -> None:
    made = prune(digits_path(), "unstructured", 0.95)
    checked(made, "block5.pointwise", "95 %")
    assert "wrote" not in str(made)


def test_devices_and_the_doctor() -> None:
    found = Devices(
        (Device("pi5", Address("10.0.0.3", 9090), FREE), Device("pi5", Address("10.0.0.4", 9090), BROKEN, "odd"))
    )
    checked(found, "10.0.0.4:9090", "broken", "odd")
    assert len(found) == 2
    checked(Diagnosis((Check("tools", "compiler", FAILED, "none", "get one"),), read_cpu()), "get one", "Next: mend")


def test_facts_and_patterns() -> None:
    facts = propagate(tesa.import_onnx(digits_path()))
    checked(explain(facts, "block1.pointwise"), "block1.pointwise: ")
    pattern = classify(np.kron(np.eye(4), np.ones((4, 4))).astype(np.float32))
    assert str(pattern) == "group 4"
    assert all(piece in pattern._repr_html_() for piece in ("group 4, 16x16", "75 % zeros", "of a row 4 to 4"))


def test_a_tuning_curve(tmp_path: Path) -> None:
    assert list(best_so_far(CURVE)) == [(2, 0.5), (3, 0.5), (4, 0.4), (5, 0.4)]
    axes = TUNED.plot(tmp_path / "curve.svg").figure.axes[0]
    assert "fc" in (tmp_path / "curve.svg").read_text()
    assert list(axes.lines[0].get_ydata()) == [0.5, 0.5, 0.4, 0.4, 0.4]
    assert axes.get_ylabel() == "best time, ms"
    other = replace(DONE, name="other", default_ms=1.0, curve=(1.0, 0.5))
    several = replace(TUNED, layers=(DONE, other)).plot().figure.axes[0]
    shares = [list(line.get_ydata()) for line in several.lines[:2]]
    assert [1.0, 1.0, 0.8, 0.8, 0.8] in shares
    assert [1.0, 0.5, 0.5] in shares
    with pytest.raises(UsageError, match="no layer has a time"):
        replace(TUNED, layers=(replace(DONE, curve=(None,)),)).plot()


def test_the_front_as_a_picture(tmp_path: Path) -> None:
    axes = explored().plot(tmp_path / "front.png").figure.axes[0]
    assert (tmp_path / "front.png").stat().st_size > 0
    assert list(axes.lines[0].get_ydata()) == [0.2, 0.1]


def test_the_channel_mask_that_ships_is_what_it_says_and_leads_to_more() -> None:
    inspected = tesa.inspect_model(digits_path())
    pointwise = [row.layer for row in inspected.layers if row.layer.endswith("pointwise")]
    with np.load(digits_channels_path()) as masks:
        assert sorted(masks.files) == sorted(pointwise[:-1])
        for name, mask in masks.items():
            size = np.abs(inspected.weights[name]).sum(axis=(1, 2, 3))
            assert np.array_equal(mask, np.broadcast_to((size >= np.median(size))[:, None, None, None], mask.shape))
    facts = propagate(tesa.import_onnx(digits_path(), masks=digits_channels_path()))
    assert [row.layer for row in facts.weights.values() if row.sparsity > row.given_sparsity + 0.01]


def test_a_value_is_text_and_html_in_a_notebook_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """There rich displays what it is to write, whatever the file is, unless it is told not to."""
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    shown: list[object] = []
    monkeypatch.setattr("rich.jupyter.display", lambda *parts: shown.append(parts))
    facts = propagate(import_onnx(digits_path()))
    for value in (facts, propagation_table(facts), tesa.inspect_model(digits_path())):
        assert "block2.pointwise" in str(value)
        assert max(map(len, str(value).splitlines())) <= 100
        assert "<table>" in value._repr_html_()
    assert shown == []


def test_numbers_of_a_network() -> None:
    """Those of verify, bench, analyze, a plan's layer and a weight's facts."""
    right = Comparison("logits", 1.2e-5, 3.4e-6, True, tolerance="0.1")
    checked(VerifyResult((right,), (replace(right, name="fc", ok=False),)), "logits", "1.2e-05", "FAILED")
    assert (
        "<td style=text-align:left>logits</td><td class=right>1.2e-05</td>" in VerifyResult((right,), ())._repr_html_()
    )
    facts = propagate(tesa.import_onnx(digits_path()))
    checked(next(iter(facts.weights.values())), "zeros in the file")
    checked(analyze_model(digits_path(), target="x86:haswell", progress=None), "block1.pointwise", "gain")
    layer = tesa.kernel(np.eye(16, dtype=np.float32), n=16, family="dense", measure=False).plan
    checked(layer, "zeros among the weights", "why: ")


def test_html_of_what_has_no_form_in_it_is_the_text_of_a_terminal() -> None:
    assert page_part([Columns(["a", "b"])], style=False) == '<div class="tesa"><pre>a b</pre></div>'


def test_a_model_and_its_facts_as_pictures(tmp_path: Path) -> None:
    inspected = tesa.inspect_model(digits_path())
    figure = inspected.plot(tmp_path / "masks.svg").figure
    assert [axes.get_title(loc="left").split("\n")[0] for axes in figure.axes] == list(inspected.weights)
    assert "digits.onnx: the weights of its layers" in [text.get_text() for text in figure.texts]
    drawn = propagate(tesa.import_onnx(digits_path())).plot(tmp_path / "facts.svg").figure
    assert drawn.axes[0].get_title(loc="left") == "digits.onnx: before and after propagation"
    assert {path.name for path in tmp_path.iterdir()} == {"masks.svg", "facts.svg"}
