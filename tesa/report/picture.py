"""A picture that shows itself in a notebook."""

from __future__ import annotations

import os
from io import BytesIO
from typing import Any

from tesa.report.plots import check_plot_path, save_figure


class Picture:
    """A drawn figure: displayed in a notebook, and written to a file by save. figure: that of matplotlib."""

    def __init__(self, figure: Any, path: str | os.PathLike[str] | None = None) -> None:
        self.figure = figure
        if path is not None:
            self.save(path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as .png, .svg or .pdf. UsageError for another name, or a path that cannot be written."""
        check_plot_path(path)
        save_figure(self.figure, path)

    def _repr_png_(self) -> bytes:
        stream = BytesIO()
        self.figure.savefig(stream, format="png", dpi=110)
        return stream.getvalue()

    def __repr__(self) -> str:
        width, height = self.figure.get_size_inches()
        return f"Picture({width:g} x {height:g} inches; save(path) writes it)"
