"""Download public data sets from their stable addresses, checked byte for byte."""

import http.client
import logging
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)

from genrec.artifacts import sha256_of
from genrec.errors import DataError, DependencyError

logger = logging.getLogger(__name__)

ATTEMPTS = 3
TIMEOUT_SECONDS = 30.0
BLOCK_BYTES = 1 << 16
LOOPBACK = ("127.0.0.1", "::1", "localhost")
NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)


@dataclass(frozen=True)
class RemoteFile:
    """One file of a public set.

    Attributes:
        path: Where it lies below the base address of its set.
        size: Its length in bytes.
        sha256: Its digest in hexadecimal.
    """

    path: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """What it is called on disk: the last part of its path."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class PublicSet:
    """A data set that can be fetched.

    Attributes:
        about: What it is, in one line.
        base: Address that the paths of its files are joined to.
        terms: Licence or terms of use, and whom to cite.
        files: Everything to download, the licence text included where there is one.
    """

    about: str
    base: str
    terms: str
    files: tuple[RemoteFile, ...]


PUBLIC_SETS: dict[str, PublicSet] = {
    "movietweetings-100k": PublicSet(
        about="100,000 film ratings from 0 to 10, with titles, years and genres (2013).",
        base=(
            "https://raw.githubusercontent.com/adrianrfreedman/MovieTweetings/"
            "3ae51d9ab4bac513259a36665182d1fd0e7afdf9"
        ),
        terms=(
            "MIT licence; its text is in the file LICENSE. Please cite S. Dooms, T. De Pessemier "
            "and L. Martens, MovieTweetings: a movie rating dataset collected from Twitter, 2013."
        ),
        files=(
            RemoteFile(
                path="snapshots/100K/ratings.dat",
                size=2_945_101,
                sha256="c0dd868c2632d10002ebc928ddc5345f33adeaa59eca52c2941c26a2c5e36fd6",
            ),
            RemoteFile(
                path="snapshots/100K/movies.dat",
                size=542_192,
                sha256="e63fb84bc734e3c574f135634a40d3cbafab22b8f94f5fc0b80f80d1d2076efc",
            ),
            RemoteFile(
                path="LICENSE",
                size=1_078,
                sha256="ae985d01e5fe4f32d14937099a4e871dbdc2d93d8ccc2f7a141ec4ecddcab41c",
            ),
        ),
    ),
}


def fetch(name: str, folder: Path, *, quiet: bool = False, base: str | None = None) -> Path:
    """Download a public set into ``folder/NAME`` and return that folder.

    What is there already and has the right sha256 is kept; what was interrupted goes on where it
    stopped. The terms of the set are logged.

    Args:
        name: A key of ``PUBLIC_SETS``.
        folder: Where data sets are kept; made when missing.
        quiet: No progress bar.
        base: A mirror to use instead of the set's own address; https, or http on this machine.

    Raises:
        DataError: When there is no such set, or a downloaded file is not the expected one (it is
            removed).
        DependencyError: When the files cannot be reached; the message says which files to get
            from where and where to put them.
    """
    if name not in PUBLIC_SETS:
        raise DataError(
            f"there is no public set {name!r}; genrec knows {', '.join(sorted(PUBLIC_SETS))}. "
            "For other data give data.path."
        )
    chosen = PUBLIC_SETS[name]
    address = (base or chosen.base).rstrip("/")
    _check_address(address)
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    logger.info("%s: %s Terms: %s", name, chosen.about, chosen.terms)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(stderr=True)
    with Progress(*columns, TransferSpeedColumn(), console=console, disable=quiet) as progress:
        for file in chosen.files:
            bar = progress.add_task(file.name, total=file.size)

            def show(received: int, bar: TaskID = bar) -> None:
                progress.update(bar, completed=received)

            try:
                _fetch_file(f"{address}/{file.path}", file, target, show)
            except NETWORK_ERRORS as error:
                raise DependencyError(
                    _instructions(chosen, address, target, file, error)
                ) from error
    return target


def _fetch_file(address: str, file: RemoteFile, folder: Path, show: Callable[[int], None]) -> None:
    """Make sure that the folder holds the file, whole and checked."""
    finished = folder / file.name
    if finished.is_file():
        if sha256_of(finished) == file.sha256:
            show(file.size)
            return
        logger.warning("%s is not the expected file; it is downloaded again.", finished)
    partial = folder / (file.name + ".part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _receive(address, partial, file, show)
            break
        except NETWORK_ERRORS as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
                if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                    partial.unlink()
            if attempt == ATTEMPTS:
                raise
            logger.warning("%s: %s; trying again.", address, error)
    digest = sha256_of(partial)
    if digest != file.sha256:
        partial.unlink()
        raise DataError(
            f"{address} gave a file with sha256 {digest}, expected {file.sha256}. It was removed; "
            "run the command again, and if it happens again the source or a proxy changes files."
        )
    partial.replace(finished)


def _receive(address: str, partial: Path, file: RemoteFile, show: Callable[[int], None]) -> None:
    """Append to the partial file what is missing of it; start anew where that cannot be done."""
    received = partial.stat().st_size if partial.exists() else 0
    if received > file.size:
        partial.unlink()
        received = 0
    if partial.exists() and received == file.size:
        return
    with _open(address, received) as response:
        if received and not _continues(response, received):
            received = 0
        with partial.open("ab" if received else "wb") as output:
            while received < file.size:
                block = response.read(min(BLOCK_BYTES, file.size - received))
                if not block:
                    raise ConnectionError(f"ended after {received:,} of {file.size:,} bytes")
                output.write(block)
                received += len(block)
                show(received)


def _open(address: str, start: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": "genrec", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(address, headers=headers)
    opener = urllib.request.build_opener(_SafeRedirects)
    response: http.client.HTTPResponse = opener.open(request, timeout=TIMEOUT_SECONDS)
    return response


def _continues(response: http.client.HTTPResponse, start: int) -> bool:
    """Tell whether the answer starts at the byte that was asked for; else it is a whole file."""
    if response.status != http.client.PARTIAL_CONTENT:
        return False
    content_range = response.headers.get("Content-Range", "")
    if not content_range.startswith(f"bytes {start}-"):
        raise ConnectionError(f"asked for byte {start} on, got Content-Range {content_range!r}")
    return True


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to safe addresses only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_address(address: str) -> None:
    """Refuse what is neither https nor http on this machine."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise DataError(f"{address} is not an https address; files are fetched over https only.")


def _instructions(
    chosen: PublicSet, address: str, folder: Path, file: RemoteFile, error: BaseException
) -> str:
    lines = [
        f"{file.name} could not be downloaded ({error}). What arrived is kept: the same command "
        "goes on from there. Without a network, get these files on another machine and put them "
        f"into {folder}:"
    ]
    lines += [
        f"  {address}/{wanted.path}  (as {wanted.name}, {wanted.size:,} bytes, "
        f"sha256 {wanted.sha256})"
        for wanted in chosen.files
    ]
    return "\n".join(lines)
