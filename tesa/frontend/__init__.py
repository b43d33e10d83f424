"""A model file becomes a Relax module: `import_onnx`, `load_masks`."""

from tesa.frontend.masks import load_masks
from tesa.frontend.model import ImportedModel, Port, WeightUse
from tesa.frontend.onnx import import_onnx

__all__ = ["ImportedModel", "Port", "WeightUse", "import_onnx", "load_masks"]
