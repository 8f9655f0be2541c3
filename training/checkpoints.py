"""Checkpoint folders: whose they are, and which checkpoint to continue from."""

import hashlib
import json
import logging
import shutil
from pathlib import Path

logger = logging.getLogger(__name__)


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest whole checkpoint of a training folder, or None.

    The trainer writes the state file last; a checkpoint without a readable one was cut off while
    it was written and is passed over, with a warning.
    """
    found = sorted(
        folder.glob("checkpoint-*"),
        key=lambda path: int(path.name.rpartition("-")[2]),
        reverse=True,
    )
    for path in found:
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            logger.warning("%s is not whole (%s); trying the one before", path, error)
            continue
        return str(path)
    return None


def claim(checkpoints: Path, belongs_to: object) -> None:
    """Make a checkpoint folder ours: remove one that another recipe or other inputs left.

    Args:
        checkpoints: The folder; it exists afterwards.
        belongs_to: What the training depends on; plain values.
    """
    key = hashlib.sha256(json.dumps(belongs_to, sort_keys=True).encode()).hexdigest()
    mark = checkpoints / "belongs_to.txt"
    if checkpoints.exists() and not (mark.is_file() and mark.read_text() == key):
        logger.warning("%s is of another recipe or other inputs; starting anew", checkpoints)
        shutil.rmtree(checkpoints)
    checkpoints.mkdir(parents=True, exist_ok=True)
    mark.write_text(key)
