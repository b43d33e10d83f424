"""Is there a converter for an operator: a user's, tesa's own, or TVM's."""

from tvm.relax.frontend.onnx import onnx_frontend

from tesa.frontend.registry import MICROSOFT, find_converter


def has_converter(operator: str, domain: str = "") -> bool:
    """True if an operator can become Relax as it is. domain: "" for ONNX's own.

    >>> has_converter("Conv"), has_converter("Conv", "com.example")
    (True, False)
    """
    if find_converter(operator, domain) is not None:
        return True
    return domain in ("", MICROSOFT) and (operator == "Constant" or operator in onnx_frontend._get_convert_map())
