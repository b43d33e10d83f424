"""The version of tesa, which every compiled model and every measurement carries."""

__version__ = "0.1.0"
