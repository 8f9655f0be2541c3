"""Where the pictures of items lie: a folder or a tar, of which nothing is ever unpacked.

File names come from strangers. So no path is built from an item id or from a name in an archive:
what is there is listed first, and an item's picture is looked up in that list.
"""

import logging
import os
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from genrec.errors import DataError

logger = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


class TooLarge(Exception):
    """A file is larger than it may be; the message says how large."""


class ImageFiles(Protocol):
    """Files with the endings of pictures, by name."""

    @property
    def names(self) -> Sequence[str]:
        """Names, sorted; with ``/`` where files lie in folders."""
        ...

    def read(self, name: str, most: int) -> bytes:
        """Return the content of one of the names.

        Raises:
            TooLarge: When it has more than ``most`` bytes; nothing was read then.
            OSError: When it cannot be read.
        """
        ...


def open_images(path: Path) -> ImageFiles:
    """List the pictures of a folder or of an uncompressed tar.

    Raises:
        DataError: When there is neither, or the archive is damaged or compressed.
    """
    if path.is_dir():
        return FolderImages(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist; image.path must be a folder of images or a tar.")
    return TarImages(path)


class FolderImages:
    """The pictures of a folder and of those in it; links that lead out of it are passed over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        inside = folder.resolve()
        found, outside = [], 0
        for place, _, files in os.walk(folder):
            for file in files:
                path = Path(place) / file
                if not _is_picture(file) or not path.is_file():
                    continue
                if path.is_symlink() and not path.resolve().is_relative_to(inside):
                    outside += 1
                    continue
                found.append(path.relative_to(folder).as_posix())
        if outside:
            logger.warning("%d links in %s lead out of it and are passed over", outside, folder)
        self.names: Sequence[str] = sorted(found)

    def read(self, name: str, most: int) -> bytes:
        """Return the content of a file; see ``ImageFiles``."""
        with (self._folder / name).open("rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            _require_size(size, most)
            return handle.read(size)


class TarImages:
    """The pictures in a tar; links, devices and names that lead out of it are passed over.

    Compressed archives are refused: pictures hardly shrink, while a few kilobytes can unpack to
    more than any machine holds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with tarfile.open(path, "r:") as archive:
                members = archive.getmembers()
                end = archive.offset
            _require_end(path, end)
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise DataError(
                f"{path} cannot be read as an uncompressed tar ({error}). If it was cut off, copy "
                "it again; if it is compressed, unpack it into a folder and give that."
            ) from error
        self._members: dict[str, tarfile.TarInfo] = {}
        odd = 0
        for member in members:
            if not _is_picture(member.name):
                continue
            if not member.isreg() or member.issparse() or _leads_out(member.name):
                odd += 1
                continue
            self._members[str(PurePosixPath(member.name))] = member
        if odd:
            logger.warning(
                "%d entries of %s are links, or their names lead out of it; they are passed over",
                odd,
                path,
            )
        self.names: Sequence[str] = sorted(self._members)

    def read(self, name: str, most: int) -> bytes:
        """Return the content of a member; see ``ImageFiles``."""
        member = self._members[name]
        _require_size(member.size, most)
        with self._path.open("rb") as handle:
            handle.seek(member.offset_data)
            data = handle.read(member.size)
        if len(data) != member.size:
            raise OSError(f"{name} of {self._path} is cut off")
        return data


def _require_end(path: Path, offset: int) -> None:
    """Refuse an archive that stops without the block of zeros that ends each."""
    with path.open("rb") as handle:
        handle.seek(offset)
        if handle.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"it ends at byte {offset} without an end mark")


def _is_picture(name: str) -> bool:
    # Archives made on a Mac hold a second, hidden file beside each.
    return name.lower().endswith(SUFFIXES) and not PurePosixPath(name).name.startswith("._")


def _leads_out(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def _require_size(size: int, most: int) -> None:
    if size > most:
        raise TooLarge(f"has {size:,} bytes, more than the {most:,} of image.max_bytes")


def by_item_id(names: Iterable[str], item_ids: Sequence[str]) -> list[str | None]:
    """Return for each item the file whose name without folder and ending is its id, if any.

    Where several fit, it is the first in the order of the names; how many do not come first is
    logged.
    """
    first: dict[str, str] = {}
    more = 0
    for name in names:
        more += first.setdefault(PurePosixPath(name).stem, name) != name
    if more:
        logger.warning("%d image files have the name of another one and are not used", more)
    return [first.get(item_id) for item_id in item_ids]


def by_column(names: Iterable[str], wanted: Sequence[str | None]) -> list[str | None]:
    """Return for each item the file that its column names, if it is there.

    Args:
        names: What is there.
        wanted: A name as it stands in a column, a leading ``/`` left aside; a name without folder
            also finds a file in one, when it is the only one of that name.
    """
    exact: Mapping[str, str] = {name: name for name in names}
    places: dict[str, list[str]] = {}
    for name in exact:
        places.setdefault(PurePosixPath(name).name, []).append(name)
    alone = {name: found[0] for name, found in places.items() if len(found) == 1}

    def find(value: str | None) -> str | None:
        name = (value or "").strip().removeprefix("./").lstrip("/")
        return exact.get(name) or alone.get(name)

    return [find(value) for value in wanted]
