"""The HTML of values in a notebook: a class asks for its own, a room above it, tesa.report, draws it."""

from collections.abc import Callable
from typing import Any

Renderer = Callable[[Any], str]

_RENDERERS: dict[type, Renderer] = {}
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


def html(value: Any) -> str:
    """The HTML fragment of a value; its repr where no renderer is registered for its class."""
    while _LOADERS:
        _LOADERS.pop()()
    from html import escape  # takes 10 ms, which `import tesa` would pay

    renderer = next((_RENDERERS[kind] for kind in type(value).__mro__ if kind in _RENDERERS), None)
    return f"<pre>{escape(repr(value))}</pre>" if renderer is None else renderer(value)
