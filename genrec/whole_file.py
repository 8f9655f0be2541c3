"""Files that are whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genrec.errors import DataError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file so that its name holds the old content or all of the new one, never a part.

    Folders above it are made when they are not there.

    Args:
        path: Where the finished file shall be.

    Yields:
        The file to write in its place; removed if the block raises.

    Raises:
        DataError: When there is a folder of this name.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; give the name of a file to write.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
