"""``genrec serve`` over HTTP, from a copy of a model folder, while the run has no dataset."""

import json
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow_rows import Row, bar, figures
from flow_runs import StepError, program

from genrec.data.catalog import Catalog

LATENCY_REQUESTS = 20
START_SECONDS, STOP_SECONDS, ANSWER_SECONDS = 180.0, 60.0, 60.0
UNKNOWN = "this id is in no catalogue"

_HISTORY = 5
_AWAY = ".away"
# The service listens on this machine; no proxy has a part in it.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Case:
    """One request and what has to come back.

    Attributes:
        name: What is tried, in words.
        body: What is sent, as it is.
        status: The status that has to come back.
        known: Ids of the history that the catalogue has.
        items: Items that have to come back; None where none can.
        unknown: Whether an id has to be named as unknown.
        fallback: Whether popularity has to answer, and say so.
    """

    name: str
    body: bytes
    status: int
    known: tuple[str, ...] = ()
    items: int | None = None
    unknown: bool = False
    fallback: bool = False


def cases(item_ids: Sequence[str], max_k: int) -> list[Case]:
    """Return the requests for a catalogue.

    Args:
        item_ids: Ids of the catalogue.
        max_k: Largest k the service takes.
    """
    known = tuple(item_ids[:_HISTORY])
    free = len(item_ids) - len(known)

    def body(history: object, k: object = 10) -> bytes:
        return json.dumps({"history": history, "k": k}).encode()

    return [
        Case("known ids", body(known), 200, known, min(10, free)),
        Case("known and unknown ids", body([*known, UNKNOWN]), 200, known, min(10, free), True),
        Case(
            "unknown ids only",
            body([UNKNOWN]),
            200,
            (),
            min(10, len(item_ids)),
            True,
            fallback=True,
        ),
        Case("empty history", body([]), 200, (), min(10, len(item_ids)), fallback=True),
        Case("largest k there is", body(known, max_k), 200, known, min(max_k, free)),
        Case("k too large", body(known, max_k + 1), 422),
        Case("k far too large", body(known, 10**30), 422),
        Case("k below one", body(known, 0), 422),
        Case("k is text", body(known, "ten"), 422),
        Case("history is text", body("one"), 422),
        Case("no history", b'{"k": 3}', 422),
        Case("no JSON", b'{"history": [', 422),
        Case("nothing", b"", 422),
        Case("more than a request may hold", body(["x" * 200] * 20_000), 413),
    ]


def serve(run_folder: Path, max_k: int) -> list[Row]:
    """Return the figures and bars of the service.

    Args:
        run_folder: A finished run; its dataset is moved away while the service runs.
        max_k: Largest k that the service takes by default.

    Raises:
        StepError: When the service does not come up, or the run has no dataset to move away.
    """
    with tempfile.TemporaryDirectory() as temporary, without_dataset(run_folder):
        model = Path(temporary) / "model"
        shutil.copytree(run_folder / "model", model)
        item_ids = Catalog.load(model).item_ids
        port = free_port()
        log = Path(temporary) / "log.txt"
        command = [program(), "serve", str(model), "--port", str(port)]
        begun = time.perf_counter()
        with log.open("wb") as out, running(command, out) as process:
            address = f"http://127.0.0.1:{port}"
            health = wait_until_up(address, process, log)
            up = time.perf_counter() - begun
            known = set(item_ids)
            answers = [ask(address, case, known, health) for case in cases(item_ids, max_k)]
            seconds = latency(address, item_ids)
            docs, _ = request(f"{address}/docs", None)
            gone = not (run_folder / "dataset").exists()
    service = figures(
        "The service",
        items=health["items"],
        seconds_to_start=round(up, 1),
        median_ms=round(1000 * statistics.median(seconds), 1),
        slowest_ms=round(1000 * max(seconds), 1),
        docs_status=docs,
        exit_code=process.returncode,
        model_digest=health["model_digest"],
        index_digest=health["index_digest"],
    )
    away = bar("the run's dataset was gone", int(gone), "==", 1)
    return [*answers, service, *bars(answers), away]


def bars(answers: Sequence[Row]) -> list[Row]:
    """Return the bars over the rows of all requests."""
    answered = [row for row in answers if row["status"] == 200]
    right = sum(row["as_expected"] for row in answers)
    named = sum(row["digests"] for row in answered)
    return [
        bar("answers as expected", right, "==", len(answers)),
        bar("answers with the digests of model and index", named, "==", len(answered)),
    ]


@contextmanager
def without_dataset(run_folder: Path) -> Iterator[None]:
    """Move the dataset of a run away, and put it back whatever happens.

    Raises:
        StepError: When there is no dataset, or one was left away by a start that was killed.
    """
    folder = run_folder / "dataset"
    away = folder.with_name(folder.name + _AWAY)
    if away.exists():
        raise StepError(f"{away} was left by a start that was killed; name it {folder} again.")
    if not folder.is_dir() or not (run_folder / "model").is_dir():
        raise StepError(f"{run_folder} is no finished run; make one first, or name it by --run.")
    folder.rename(away)
    try:
        yield
    finally:
        away.rename(folder)


@contextmanager
def running(command: Sequence[str], out: Any) -> Iterator[subprocess.Popen[bytes]]:  # noqa: ANN401
    """Run a service as a process of its own, and end it in order: asked first, then forced."""
    process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a port of the loopback address that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_until_up(address: str, process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    """Return what /healthz says as soon as it says ok.

    Raises:
        StepError: When the process ends, or takes too long.
    """
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            status, body = request(f"{address}/healthz", None)
        except urllib.error.URLError:  # nothing listens yet
            time.sleep(0.1)
            continue
        if status == 200:
            return body
    words = " ".join(log.read_text(encoding="utf-8", errors="replace").split())[-600:]
    raise StepError(f"the service did not come up (exit code {process.poll()}): {words}")


def request(url: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
    """Send a GET, or a POST with this body; return the status and what came back as JSON.

    What is no JSON comes back as an empty mapping.
    """
    sent = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    try:
        with _OPENER.open(sent, timeout=ANSWER_SECONDS) as answer:
            status, text = answer.status, answer.read()
            is_json = "json" in answer.headers.get("Content-Type", "")
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
        is_json = "json" in error.headers.get("Content-Type", "")
    return status, json.loads(text) if is_json else {}


def ask(address: str, case: Case, known: set[str], health: dict[str, Any]) -> Row:
    """Send a case and return its row: what came back, and whether it is what it has to be."""
    begun = time.perf_counter()
    status, answer = request(f"{address}/v1/recommend", case.body)
    seconds = time.perf_counter() - begun
    digests = all(answer.get(key) == health[key] for key in ("model_digest", "index_digest"))
    right = status == case.status and (
        right_answer(case, answer, known) if status == 200 else bool(answer.get("detail"))
    )
    return figures(
        "Requests",
        request=case.name,
        status=status,
        items=len(answer.get("items", [])),
        unknown_named=len(answer.get("unknown_items", [])),
        fallback=bool(answer.get("fallback")),
        digests=digests,
        ms=round(1000 * seconds, 1),
        as_expected=right,
    )


def right_answer(case: Case, answer: dict[str, Any], known: set[str]) -> bool:
    """Tell whether an answer holds what the case wants: real, new items, none twice, in order."""
    ids = [item["item_id"] for item in answer["items"]]
    return (
        len(ids) == len(set(ids)) == case.items
        and set(ids) <= known - set(case.known)
        and [item["rank"] for item in answer["items"]] == list(range(1, len(ids) + 1))
        and all(item["title"] for item in answer["items"])
        and answer["unknown_items"] == ([UNKNOWN] if case.unknown else [])
        and bool(answer["fallback"]) == case.fallback
    )


def latency(address: str, item_ids: Sequence[str]) -> list[float]:
    """Return the seconds of requests sent one after the other, each for a history of its own.

    Raises:
        StepError: When one is not answered.
    """
    seconds = []
    for place in range(LATENCY_REQUESTS + 1):
        history = [item_ids[(7 * place + step) % len(item_ids)] for step in range(_HISTORY)]
        begun = time.perf_counter()
        status, _ = request(
            f"{address}/v1/recommend", json.dumps({"history": history, "k": 10}).encode()
        )
        seconds.append(time.perf_counter() - begun)
        if status != 200:
            raise StepError(f"a request with known ids was answered with status {status}.")
    return seconds[1:]  # the first one warms up
