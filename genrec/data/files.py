"""Open input files: what they are, whether they are whole, and their text as clean UTF-8."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import polars as pl
import pyarrow as pa

from genrec.errors import DataError

REPLACEMENT = "\ufffd"
TABLE_SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "text",
    ".tsv": "text",
    ".txt": "text",
    ".jsonl": "json",
    ".json": "json",
    ".ndjson": "json",
}
_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_OTHER_MAGIC = {
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"\xfd7zX": "an xz archive",
    b"BZh": "a bzip2 archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
    b"SQLite f": "an SQLite database",
}


def suffix_of(path: Path) -> str:
    """Return the suffix that tells what a file holds, in lower case, without a final ``.gz``."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def layout_of(path: Path) -> str | None:
    """Return ``parquet``, ``text`` or ``json`` by a file's name; ``None`` for any other."""
    return TABLE_SUFFIXES.get(suffix_of(path))


def require_file(path: Path, what: str = "input file") -> Path:
    """Check that a file is there, not empty and is what its name says; return it.

    Raises:
        DataError: When it is not.
    """
    if not path.exists():
        raise DataError(f"{what} {path} does not exist; check data.path and data.items_path.")
    if not path.is_file():
        raise DataError(f"{what} {path} is not a file.")
    with reading(path):
        with path.open("rb") as handle:
            start = handle.read(8)
    if not start:
        raise DataError(f"{path} is empty (0 bytes); expected a table with a row per event.")
    for magic, name in _OTHER_MAGIC.items():
        if start.startswith(magic):
            raise DataError(
                f"{path} is {name}; genrec reads Parquet, and CSV, TSV or JSON lines in UTF-8, "
                "plain or with gzip. Unpack or convert it first."
            )
    is_parquet = start.startswith(_PARQUET)
    if is_parquet != (layout_of(path) == "parquet"):
        raise DataError(
            f"{path} is {'a' if is_parquet else 'not a'} Parquet file, but its name ends in "
            f"{path.suffix!r}. Give it the name that fits its content."
        )
    if path.suffix.lower() == ".gz" and not start.startswith(_GZIP):
        raise DataError(f"{path} is named .gz but is not a gzip file; rename it.")
    return path


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a file is read into a ``DataError`` that names the file."""
    try:
        yield
    except EOFError as error:
        raise DataError(
            f"{path} ends too early: it is cut off. Copy or download it again ({error})."
        ) from error
    except (OSError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {_first_line(error)}.") from error
    except (pa.ArrowException, pl.exceptions.PolarsError) as error:
        reason = _first_line(error)
        if "straddling" in reason:
            reason = "a quote is opened and never closed, or a line is longer than 16 MB"
        raise DataError(
            f"{path} cannot be read: {reason}. It is damaged, cut off or of another format; copy "
            "or export it again."
        ) from error


def _first_line(error: Exception) -> str:
    """Return what went wrong without the end of the sentence; libraries add lines of their own."""
    return (str(error).strip() or repr(error)).splitlines()[0].rstrip(" .:")


class _CleanText(io.RawIOBase):
    """Bytes of a text file as valid UTF-8 without a byte order mark.

    Bytes that are not UTF-8 become U+FFFD, so that only the rows that hold them are lost.
    """

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._rest = b""
        self._done = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        while not self._rest and not self._done:
            chunk = self._raw.read(1 << 20)
            self._done = not chunk
            self._rest = self._decoder.decode(chunk, final=self._done).encode("utf-8")
        part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self._raw.close()
        super().close()


def open_text(path: Path) -> io.BufferedReader:
    """Open a text file, plain or gzip, as a stream of clean UTF-8 bytes."""
    with path.open("rb") as handle:
        zipped = handle.read(2) == _GZIP
    raw: IO[bytes] = gzip.open(path, "rb") if zipped else path.open("rb")  # type: ignore[assignment]
    return io.BufferedReader(_CleanText(raw), buffer_size=1 << 20)


def first_lines(path: Path, count: int = 1) -> list[str]:
    """Return the first lines of a text file that are not blank, without their line ends.

    Raises:
        DataError: When the file has no such line or cannot be read.
    """
    lines: list[str] = []
    with reading(path), open_text(path) as handle:
        while len(lines) < count and (line := handle.readline(1 << 24)):
            text = line.decode("utf-8", errors="replace").rstrip("\r\n")
            if not lines and "\r" in text and not line.endswith(b"\n"):
                raise DataError(
                    f"{path} ends its lines with carriage returns alone, as very old programs do; "
                    "save it with line feeds."
                )
            if text.strip():
                lines.append(text)
    if not lines:
        raise DataError(f"{path} holds nothing but white space; expected a row per event.")
    return lines


def line_blocks(path: Path, block_bytes: int = 1 << 25) -> Iterator[pl.DataFrame]:
    """Yield a text file as tables of ``row`` (line number from 1) and ``line``, blank ones too."""
    row = 1
    rest = b""
    with reading(path):
        handle = open_text(path)
    with handle:
        while True:
            with reading(path):
                chunk = handle.read(block_bytes)
            data = rest + chunk
            cut = data.rfind(b"\n") + 1 if chunk else len(data)
            data, rest = data[:cut], data[cut:]
            if data:
                text = data.decode("utf-8", errors="replace").removesuffix("\n")
                lines = pl.Series("line", [text]).str.split("\n").explode()
                table = pl.DataFrame({"line": lines.str.strip_chars_end("\r")})
                yield table.select(
                    pl.int_range(row, row + table.height, dtype=pl.Int64).alias("row"), "line"
                )
                row += table.height
            if not chunk:
                return
