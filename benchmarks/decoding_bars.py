"""What the search has to reach, beside what was measured."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

# Requests of a batch, beams and tokens of the prompt -> times faster than `generate`, exact scores.
OVER_GENERATE = {
    (1, 20, 128): 6, (1, 20, 512): 15, (1, 50, 128): 12, (16, 20, 128): 40, (16, 50, 128): 60,
}  # fmt: skip
# Requests of a batch -> times faster than vLLM's own search, level scores, 20 beams.
OVER_VLLM = {1: 2, 16: 4}


Bar = tuple[str, float, str, float]


def bars(rows: Sequence[Row]) -> list[list[str]]:
    """Return what is measured, the figure, what it has to be, and whether it is."""
    found: list[list[str]] = []
    for row in rows:
        for what, value, relation, bar in _OF_STEP.get(row["step"], _none)(row):
            reached = value >= bar if relation == ">=" else value <= bar
            found.append([what, f"{value:g}", f"{relation} {bar:g}", "yes" if reached else "no"])
    return found


def _none(_row: Row) -> Iterator[Bar]:
    yield from ()


def _shape(row: Row) -> str:
    return f"{row['batch']} requests, {row['beams']} beams, prompt {row['prompt']}"


def _speed(row: Row) -> Iterator[Bar]:
    if row["items"] != 100_000:
        return
    model = row["step"]
    if model == "smollm2":
        times = OVER_GENERATE[(row["batch"], row["beams"], row["prompt"])]
        yield f"{model} over generate, {_shape(row)}", row["times_faster_exact"], ">=", times
    yield f"{model}, share of masks, {_shape(row)}", row["masks_share"], "<=", 0.01


def _vllm(row: Row) -> Iterator[Bar]:
    named = (row["model"], row["score"], row["beams"], row["prompt"])
    if named == ("smollm2", "level", 20, 128):
        times = OVER_VLLM[row["batch"]]
        yield f"smollm2 over vLLM, {_shape(row)}", row["vllm_search_over_ours"], ">=", times


def _filters(row: Row) -> Iterator[Bar]:
    cost = row["cost_of_denying_half"]
    yield f"{row['model']}, cost of denying half, {_shape(row)}", cost, "<=", 0.05


def _floor(row: Row) -> Iterator[Bar]:
    if (row["model"], row["batch"]) == ("smollm2", 16):
        what = f"smollm2 over the floor, {row['score']}, {_shape(row)}"
        yield what, row["times_the_floor"], "<=", 2


def _parity(row: Row) -> Iterator[Bar]:
    yield f"{row['model']}, overlap with generate in float32", row["overlap"], ">=", 1


def _tries(row: Row) -> Iterator[Bar]:
    most = {1_000_000: (0.2, 10), 10_000_000: (2, 60)}
    if row["items"] in most:
        seconds, megabytes = most[row["items"]]
        yield f"trie of {row['items']:,}, seconds", row["seconds"], "<=", seconds
        what = f"trie of {row['items']:,}, megabytes"
        yield f"{what} without the rows of items", row["megabytes"], "<=", megabytes
        whole = round(row["megabytes"] + row["megabytes_of_rows"], 1)
        yield f"{what} with the rows of items", whole, "<=", megabytes


def _faults(row: Row) -> Iterator[Bar]:
    kinds = ("unequal", "outside", "against_rules", "wrong_length", "twice")
    faults = sum(row.get(kind, 0) for kind in kinds)
    requests = row.get("cases", row.get("requests"))
    yield f"{row['step']}: faults in {requests:,} requests, {row['paths']:,} items", faults, "<=", 0


_OF_STEP: dict[str, Callable[[Row], Iterator[Bar]]] = {
    "tiny": _speed, "smollm2": _speed, "vllm": _vllm, "filters": _filters, "floor": _floor,
    "parity": _parity, "tries": _tries, "rules": _faults, "paths": _faults,
}  # fmt: skip
