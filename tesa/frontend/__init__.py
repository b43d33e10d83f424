"""A model file becomes a Relax module: `import_onnx`, `load_masks`, and `converter` for operators of your own."""

from tesa.frontend.masks import load_masks
from tesa.frontend.model import ImportedModel, Port, WeightUse
from tesa.frontend.onnx import import_onnx
from tesa.frontend.registry import converter, converter_scope, custom_operators

__all__ = [
    "ImportedModel", "Port", "WeightUse", "converter", "converter_scope", "custom_operators", "import_onnx",
    "load_masks",
]  # fmt: skip
