"""Image vectors kept while many are made, so that a stopped job goes on where it was."""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from genrec.claimed_folder import claim

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chunk:
    """What became of some pictures.

    Attributes:
        vectors: float32[m, d], those of the pictures that could be read, in order.
        reasons: Why a picture could not be read, by catalogue row.
    """

    vectors: NDArray[np.float32]
    reasons: dict[int, str]


class Chunks:
    """Finished chunks in a folder, one file each; a folder of another job is emptied, never read.

    Args:
        folder: Where the files lie; made if absent.
        job: Everything the vectors depend on, as plain values.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any]) -> None:
        self._folder = folder
        claim(folder, job)

    def load(self, number: int) -> Chunk | None:
        """Return a chunk; None when it is not there or not whole."""
        path = self._path(number)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                reasons = json.loads((file.metadata() or {})["reasons"])
                return Chunk(file.get_tensor("vectors"), {int(k): v for k, v in reasons.items()})
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            logger.warning("%s cannot be read (%s); its images are encoded again", path, error)
            return None

    def save(self, number: int, chunk: Chunk) -> None:
        """Write a chunk; a kill at any moment leaves all of it or nothing."""
        path = self._path(number)
        partial = path.with_suffix(".partial")
        reasons = json.dumps({str(row): why for row, why in chunk.reasons.items()})
        save_file({"vectors": chunk.vectors}, partial, {"reasons": reasons})
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        partial.replace(path)

    def remove(self) -> None:
        """Delete the folder; the job is done."""
        shutil.rmtree(self._folder)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.safetensors"
