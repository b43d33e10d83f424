"""Lines that install what an optional part of tesa needs, beside a checkout as well as beside a wheel."""

import importlib.metadata
import re
from collections.abc import Iterator


def install(extra: str) -> str:
    """The pip command for an extra: its packages by name, since tesa itself need not be on an index.

    >>> install("plot").startswith("pip install 'matplotlib>=3.8")
    True
    """
    found = list(dict.fromkeys(_packages(extra)))
    if not found:  # tesa is older than its checkout
        return f"pip install -e '.[{extra}]' in the checkout of tesa"
    return " ".join(["pip install", *(f"'{one}'" for one in found)])


def _packages(extra: str) -> Iterator[str]:
    """The requirements of an extra; those of an extra that it names in their place."""
    for line in importlib.metadata.requires("tesa") or ():
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        if not re.search(rf"""extra\s*==\s*["']{re.escape(extra)}["']""", marker):
            continue
        nested = re.fullmatch(r"tesa\[([\w,-]+)\]", requirement)
        if nested is None:
            name, bounds = re.fullmatch(r"([\w.-]+(?:\[[^\]]*\])?)\s*\(?([^)]*)\)?", requirement).groups()  # type: ignore[union-attr]
            yield name + ",".join(sorted(bounds.replace(" ", "").split(","), key=lambda bound: bound[:1] == "<"))
        else:
            for name in nested[1].split(","):
                yield from _packages(name)
