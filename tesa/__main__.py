"""`python -m tesa`: the command line, where the program `tesa` is not on the PATH."""

import sys

from tesa.cli import main

if __name__ == "__main__":
    sys.exit(main())
