"""The HTML of tesa's values in a notebook, registered for tesa.base.display."""

from tesa.base.display import renders
from tesa.kernels.kernel import Kernel
from tesa.propagate.model import TesaModel
from tesa.report.kernel import kernel_html
from tesa.report.propagation import propagation_table


@renders(TesaModel)
def propagated(model: TesaModel) -> str:
    """The table of what propagation has found, layer by layer."""
    return str(propagation_table(model)._repr_html_())


@renders(Kernel)
def kernel(value: Kernel) -> str:
    """The kernel's mask as a picture, what it computes and what it competed with."""
    count = value.problem.threads
    return kernel_html(value.plan, value.weight, f"{value.target.name}, {count} thread{'s' if count != 1 else ''}")
