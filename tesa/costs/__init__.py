"""The cost table of a device: measured by `tesa calibrate`, asked by the compiler and by `tesa analyze`."""

from tesa.costs.prediction import Prediction, Priced
from tesa.costs.store import load
from tesa.costs.table import CostTable

__all__ = ["CostTable", "Prediction", "Priced", "load"]
