"""Folders that are kept while a long job runs, so that a stopped one goes on where it was."""

import hashlib
import json
import logging
import shutil
from pathlib import Path

logger = logging.getLogger(__name__)


def claim(folder: Path, job: object) -> str:
    """Make a folder ours: empty one that another recipe or other inputs left, never read it.

    Args:
        folder: The folder; it exists afterwards.
        job: Everything that what is kept in it depends on, as plain values.

    Returns:
        What identifies the job.
    """
    key = hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()
    mark = folder / "belongs_to.txt"
    if folder.exists() and not (mark.is_file() and mark.read_text() == key):
        logger.warning("%s is of another recipe or other inputs; starting anew", folder)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(key)
    return key
