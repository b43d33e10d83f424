"""Physical removal of dead and constant channels: `compact`, `verify_with_onnxruntime`, `save`."""

from tesa.compact.analysis import handled
from tesa.compact.check import TOLERANCE, verify_with_onnxruntime
from tesa.compact.model import Compacted, Removal, compact
from tesa.compact.saved import save

__all__ = ["TOLERANCE", "Compacted", "Removal", "compact", "handled", "save", "verify_with_onnxruntime"]
