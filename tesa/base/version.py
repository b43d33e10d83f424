"""The versions of tesa, which every compiled model and every measurement carries, and of what it compiles with."""

from functools import cache

__version__ = "0.1.0"


@cache
def versions() -> dict[str, str]:
    """The versions that the bytes of an object depend on, beside the code and the target."""
    import tvm
    import tvm_ffi

    return {"tesa": __version__, "tvm": str(tvm.__version__), "tvm_ffi": str(tvm_ffi.__version__)}
