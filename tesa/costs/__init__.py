"""The cost table of a device: measured by `tesa calibrate`, asked by the compiler and by `tesa analyze`."""

from tesa.costs.table import CostTable, Prediction, Priced

__all__ = ["CostTable", "Prediction", "Priced"]
