"""A server that says of itself what a file says: tesa's own, with its answers replaced.

python lying.py FILE OPTIONS...: FILE is a text of Python, the value of tesa.about; without it the server is honest.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tesa.measure.remote import server


def main(file: Path, words: list[str]) -> None:
    """Serve."""

    def in_session() -> None:
        import tvm_ffi

        if file.exists():
            answer = eval(file.read_text())
            tvm_ffi.register_global_func("tesa.about", lambda: answer, override=True)

    server.main(words, in_session)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
