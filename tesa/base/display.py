"""The looks of values: a class asks for its own as HTML, text or picture, a room above it, tesa.report, draws it."""

from collections.abc import Callable
from typing import Any

Renderer = Callable[[Any], str]

_RENDERERS: dict[type, Renderer] = {}
_WRITERS: dict[type, Renderer] = {}
_PLOTTERS: dict[type, Callable[..., Any]] = {}
_LOADERS: list[Callable[[], object]] = []


def renders(kind: type) -> Callable[[Renderer], Renderer]:
    """Register the decorated function as the one that draws values of a class, those of its subclasses too.

    >>> class Point:
    ...     pass
    >>> @renders(Point)
    ... def point_html(point):
    ...     return "<b>a point</b>"
    >>> html(Point())
    '<b>a point</b>'
    """

    def register(renderer: Renderer) -> Renderer:
        _RENDERERS[kind] = renderer
        return renderer

    return register


def load_with(loader: Callable[[], object]) -> None:
    """Call the function, which is to register renderers, before the first value is drawn."""
    _LOADERS.append(loader)


def writes(kind: type) -> Callable[[Renderer], Renderer]:
    """Register the decorated function as the one that writes values of a class as text, those of its subclasses too.

    >>> class Line:
    ...     __str__ = text
    >>> @writes(Line)
    ... def line_text(line):
    ...     return "a line"
    >>> print(Line())
    a line
    """

    def register(writer: Renderer) -> Renderer:
        _WRITERS[kind] = writer
        return writer

    return register


def plots(kind: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function(value, **options) as the one that draws pictures of values of a class."""

    def register(plotter: Callable[..., Any]) -> Callable[..., Any]:
        _PLOTTERS[kind] = plotter
        return plotter

    return register


class Displayed:
    """A value that shows itself: as HTML in a notebook, as text of up to 100 columns where it is printed."""

    def _repr_html_(self) -> str:
        return html(self)

    def __str__(self) -> str:
        return text(self)


def html(value: Any) -> str:
    """The HTML fragment of a value; its repr where no renderer is registered for its class."""
    from html import escape  # takes 10 ms, which `import tesa` would pay

    renderer = _found(_RENDERERS, value)
    return f"<pre>{escape(repr(value))}</pre>" if renderer is None else renderer(value)


def text(value: Any) -> str:
    """A value as text of up to 100 columns; its repr where no writer is registered for its class."""
    writer = _found(_WRITERS, value)
    return repr(value) if writer is None else writer(value)


def picture(value: Any, **options: Any) -> Any:
    """The picture of a value. TypeError where no plotter is registered for its class."""
    plotter = _found(_PLOTTERS, value)
    if plotter is None:
        raise TypeError(f"a {type(value).__name__} has no picture")
    return plotter(value, **options)


def _found(registered: dict[type, Any], value: Any) -> Any:
    while _LOADERS:
        _LOADERS.pop()()
    return next((registered[kind] for kind in type(value).__mro__ if kind in registered), None)
