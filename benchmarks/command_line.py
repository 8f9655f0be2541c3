"""What the command lines of the benchmarks share."""

import sys
from pathlib import Path


def say(text: str) -> None:
    """Tell the person at the terminal; standard output is for results."""
    print(text, file=sys.stderr, flush=True)


def absolute(text: str) -> Path:
    """Read a path given to a command that changes folders."""
    return Path(text).absolute()
