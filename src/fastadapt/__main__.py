"""`python -m fastadapt COMMAND ...` is the command line, for launchers that start a module."""

import sys

from fastadapt.cli import main

if __name__ == "__main__":
    sys.exit(main())
