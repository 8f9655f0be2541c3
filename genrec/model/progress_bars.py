"""The progress bars that transformers shows by itself, such as "Loading weights"."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers.utils import logging as transformers_logging


@contextmanager
def without_progress_bars(hide: bool = True) -> Iterator[None]:
    """Let transformers load and save without bars of its own; put back what was set before.

    Args:
        hide: False changes nothing.
    """
    library: Any = transformers_logging
    shown = library.is_progress_bar_enabled()
    if hide:
        library.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            library.enable_progress_bar()
