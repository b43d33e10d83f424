"""HTML in a notebook: the room of reports draws what the rooms below ask for."""

from __future__ import annotations

from typing import Any

from tesa.base import display
from tesa.frontend import import_onnx
from tesa.models import digits_path
from tesa.propagate import propagate


def test_the_report_draws_a_propagated_model() -> None:
    shown = propagate(import_onnx(digits_path()))._repr_html_()
    assert "block2.pointwise" in shown
    assert "<table" in shown


def test_a_subclass_is_drawn_like_its_class(monkeypatch: Any) -> None:
    class Base:
        pass

    class Derived(Base):
        pass

    monkeypatch.setattr(display, "_RENDERERS", {})
    display.renders(Base)(lambda value: f"<b>{type(value).__name__}</b>")
    assert display.html(Derived()) == "<b>Derived</b>"
    assert display.html(1 < 2) == "<pre>True</pre>"
    assert display.html("<") == "<pre>&#x27;&lt;&#x27;</pre>"
