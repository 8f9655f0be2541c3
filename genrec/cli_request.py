"""What is asked for on the command line: a history, and rules."""

import csv
import json
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from genrec.errors import RequestError


def read_ids(text: str, option: str) -> list[str]:
    """Split a line of ids at its commas; an id in double quotes may hold commas.

    Args:
        text: What was given.
        option: What errors call it, such as ``--history``.

    Raises:
        RequestError: When there is more than one line, a quote does not close, or bytes are no
            UTF-8 text.
    """
    if text.encode(errors="ignore").decode() != text:
        raise RequestError(f"{option} is {text[:60]!a}, which is no UTF-8 text; send item ids.")
    if len(text.splitlines()) > 1:
        raise RequestError(f"{option} holds more than one line, expected ids split by commas.")
    try:
        rows = list(csv.reader(text.splitlines(), skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise RequestError(
            f"{option} is {text[:60]!r}, which cannot be cut into ids ({error}). Split ids by "
            "commas; put an id that holds a comma in double quotes, as in '\"a,b\",c'."
        ) from error
    return [item_id.strip() for row in rows for item_id in row if item_id.strip()]


def read_rules(given: str | None, keys: list[str]) -> dict[str, Any]:
    """Return the rules that ``--rules`` means.

    Args:
        given: JSON, or ``@`` and the name of a file that holds it; None means no rules.
        keys: The keys that rules may have.

    Raises:
        RequestError: When the file cannot be read, or holds no JSON object with such keys.
    """
    if given is None:
        return {}
    text, source = given, "--rules"
    if given.startswith("@"):
        source = f"--rules: {given[1:]}"
        text = _content(Path(given[1:]), source)
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f'{source} is no JSON ({error}); give an object such as \'{{"deny": ["ID1"]}}\', or @ '
            "and the name of a file that holds one."
        ) from error
    wrong = sorted(set(body) - set(keys)) if isinstance(body, dict) else []
    if wrong or not isinstance(body, dict):
        found = f"the keys {', '.join(map(shortened, wrong))}" if wrong else shortened(body)
        raise RequestError(f"{source} has {found}, expected an object with {', '.join(keys)}.")
    return body


def _content(path: Path, source: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{source} is no UTF-8 text ({error}).") from error
    except (OSError, ValueError) as error:
        raise RequestError(f"{source} cannot be read ({error}); name a file with JSON.") from error
