"""How wide a beam has to be: lists of trained models beside those of scoring every item."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from genrec.data.dataset import Dataset
from genrec.data.ranking import Ranking
from genrec.decoding.ranker import GenerativeRanker
from genrec.model.generative import GenerativeModel

WIDTHS = (10, 20, 50, 100, 256)
CUTOFFS = (10, 50)

Row = dict[str, str | int | float]


def beams(runs: Sequence[Path], users: int, seed: int, quiet: bool = False) -> list[Row]:
    """Compare lists of several beam widths with the exact ones, for users of the test part.

    With a beam as wide as there are items nothing is ever dropped, so its list is that of scoring
    every item.

    Args:
        runs: Run folders with a dataset and a trained model.
        users: Drawn by seed from the test part.
        seed: Of the draw.
        quiet: Show no progress.
    """
    return [row for run in runs for row in _of_run(run, users, seed, quiet)]


def _of_run(run: Path, users: int, seed: int, quiet: bool) -> list[Row]:
    dataset = Dataset.load(run / "dataset")
    model = GenerativeModel.load(run / "model", device=torch.device("cpu"))
    part = dataset.histories("test")
    drawn = np.random.default_rng(seed).choice(len(part), min(users, len(part)), replace=False)
    part = part.take(np.sort(drawn))
    histories = [part[number] for number in range(len(part))]
    items = len(model.catalog)
    # A batch of one: the exact lists read as many beams as there are prefixes.
    exact_ranker = GenerativeRanker(model, beam=items, batch_size=1)
    exact = [
        exact_ranker.rank([history], max(CUTOFFS), exclude=[history])[0]
        for history in track(histories, f"Exact lists of {run.name}", disable=quiet)
    ]
    rows: list[Row] = []
    for width in WIDTHS:
        ranker = GenerativeRanker(model, beam=width, batch_size=16)
        ranker.rank(histories[:16], 1)
        begun = time.perf_counter()
        found = ranker.rank(histories, min(width, max(CUTOFFS)), exclude=histories)
        seconds = time.perf_counter() - begun
        row: Row = {
            "run": run.name, "items": items, "levels": model.index.levels, "users": len(histories),
            "beams": width,
        }  # fmt: skip
        # A list can't be longer than the beam is wide.
        for cutoff in (each for each in CUTOFFS if each <= width):
            row[f"recall_of_exact@{cutoff}"] = round(_shared(found, exact, cutoff), 4)
            row[f"hits@{cutoff}"] = _hits(found, part.target, cutoff)
            row[f"hits_of_exact@{cutoff}"] = _hits(exact, part.target, cutoff)
        row["milliseconds_a_request"] = round(1e3 * seconds / len(histories), 1)
        rows.append(row)
    return rows


def _shared(found: Sequence[Ranking], exact: Sequence[Ranking], cutoff: int) -> float:
    """Return the share of the exact lists' first items that the lists found."""
    shares = [
        len(np.intersect1d(one.items[:cutoff], other.items[:cutoff])) / len(other.items[:cutoff])
        for one, other in zip(found, exact, strict=True)
    ]
    return float(np.mean(shares))


def _hits(lists: Sequence[Ranking], targets: np.ndarray, cutoff: int) -> int:
    return sum(
        int(target in ranking.items[:cutoff])
        for ranking, target in zip(lists, targets.tolist(), strict=True)
    )
