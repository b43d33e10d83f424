"""The kernel that was chosen for a layer."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tesa.build.product import Product
from tesa.choose.plan import Part
from tesa.schedules.types import Code


@dataclass(frozen=True)
class ChosenKernel:
    """The kernel of a layer.

    parts: one, or those of a decomposition, see tesa.choose.plan. digest: of the layer's weight. emit(): the code that
    the product was built from.
    """

    layer: str
    parts: tuple[Part, ...]
    product: Product
    digest: str = ""
    emit: Callable[[], Code] | None = field(default=None, repr=False, compare=False)

    @property
    def part(self) -> Part:
        """The first part: it has the candidates and the reason."""
        return self.parts[0]
