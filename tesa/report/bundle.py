"""A bundle as a table: each file, its size, and what it is for."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from tesa.bundle.bundle import Bundle
from tesa.report.numbers import size
from tesa.report.table import table


def bundle_view(bundle: Bundle) -> Iterator[RenderableType]:
    """One row per file, the licences together."""
    rows = [(file.name, size(file.bytes), file.what) for file in bundle.files if "licences/" not in file.name]
    licences = [file for file in bundle.files if "licences/" in file.name]
    rows.append((f"licences/ ({len(licences)})", size(sum(file.bytes for file in licences)), ""))
    yield table(("file", "size", "what it is for"), rows)
    yield Text(f"wrote {bundle.path} ({size(bundle.bytes)}); next: {bundle.path / 'README.md'}")
