"""Lines that install what an extra needs."""

import importlib.metadata

import pytest

from tesa.base.extras import install

REQUIRES = [
    "numpy<3,>=1.26",
    "matplotlib<4,>=3.8; extra == 'plot'",
    'xgboost-cpu>=3; extra == "tune"',
    "tesa[tune]; extra == 'cluster'",
    "distributed<2027,>=2024.8; extra == 'cluster'",
]


@pytest.mark.parametrize(
    ("extra", "line"),
    [
        ("plot", "pip install 'matplotlib>=3.8,<4'"),
        ("cluster", "pip install 'xgboost-cpu>=3' 'distributed>=2024.8,<2027'"),
        ("unknown", "pip install -e '.[unknown]' in the checkout of tesa"),
    ],
)
def test_the_packages_are_named(monkeypatch: pytest.MonkeyPatch, extra: str, line: str) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: REQUIRES)
    assert install(extra) == line
