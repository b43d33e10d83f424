"""Rows of plain data as a pandas.DataFrame, where pandas is installed."""

from collections.abc import Mapping, Sequence
from typing import Any

from tesa.errors import UsageError


def frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A pandas.DataFrame with a row for each mapping. UsageError without pandas, which tesa itself does not need."""
    try:
        import pandas
    except ImportError as error:
        raise UsageError("to_pandas() needs pandas: pip install pandas") from error
    return pandas.DataFrame(list(rows))
