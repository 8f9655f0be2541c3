"""Finding the checkpoint to continue from."""

import json
import logging
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
