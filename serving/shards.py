"""Rankings kept on disk while a long job runs, so that a killed one goes on where it was."""

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from genrec.claimed_folder import claim
from genrec.data.ranking import Ranking

logger = logging.getLogger(__name__)


class Shards:
    """Finished pieces of a job in a folder, one file a piece.

    A file appears whole or not at all. The folder remembers what the job was made of; a folder
    of another job is emptied, never read.

    Args:
        folder: Where the files lie; made if absent.
        job: Everything the rankings depend on, as plain values.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any]) -> None:
        self.folder = folder
        self.key = claim(folder, job)

    def load(self, name: str) -> tuple[list[Ranking], float] | None:
        """Return the rankings of a piece and the seconds they took; None when not there."""
        path = self.folder / f"{name}.safetensors"
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="numpy") as shard:
                metadata = shard.metadata() or {}
                lengths, items, scores = (
                    shard.get_tensor(key) for key in ("lengths", "items", "scores")
                )
        except (SafetensorError, OSError) as error:
            logger.warning("%s cannot be read (%s); its part is computed again", path, error)
            return None
        if metadata.get("key") != self.key:
            logger.warning("%s is of another job; its part is computed again", path)
            return None
        cuts = np.cumsum(lengths)[:-1]
        rankings = [
            Ranking(some_items, some_scores)
            for some_items, some_scores in zip(
                np.split(items, cuts), np.split(scores, cuts), strict=True
            )
        ]
        return rankings, float(metadata["seconds"])

    def save(self, name: str, rankings: Sequence[Ranking], seconds: float) -> None:
        """Write the rankings of a piece, at least one, and the seconds they took."""
        arrays: dict[str, NDArray[Any]] = {
            "lengths": np.asarray([len(ranking) for ranking in rankings], dtype=np.int64),
            "items": np.concatenate([ranking.items for ranking in rankings]).astype(np.int32),
            "scores": np.concatenate([ranking.scores for ranking in rankings]).astype(np.float32),
        }
        partial = self.folder / f"{name}.partial"
        save_file(arrays, partial, {"key": self.key, "seconds": repr(seconds)})
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(partial, self.folder / f"{name}.safetensors")

    def remove(self) -> None:
        """Delete the folder; the job is done."""
        shutil.rmtree(self.folder)
