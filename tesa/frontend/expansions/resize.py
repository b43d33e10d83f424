"""A Resize of opset 10 whose scales were computed: now they are known, and with them its nearest pixels."""

from collections.abc import Sequence
from typing import Any

from tesa.frontend.expand import Writer, expands
from tesa.frontend.raises.resize import SIMPLE, simple_steps


@expands("Resize")
def resize(writer: Writer, node: Any) -> Sequence[str] | None:
    """The pixel before where an axis grows, the pixel after where it shrinks."""
    options = writer.options
    if options.get("nearest_mode", b"").decode() != SIMPLE:
        return None
    scales = writer.value(node.input[2])
    if scales is None:
        raise writer.unsupported("its scales are not known before the model runs; tesa compiles for fixed sizes")
    result = node.input[0]
    for mode, factors in simple_steps(scales):
        options["nearest_mode"] = mode
        result = writer.add("Resize", result, "", writer.constant(factors), **options)
    return [result]
