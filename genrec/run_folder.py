"""What a run folder keeps beside its stages: the resolved recipe, a lock, and timings."""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from genrec.config import Recipe
from genrec.errors import ArtifactError, ConfigError, DataError
from genrec.recipe_file import load_recipe, write_recipe
from genrec.whole_file import replacing

RECIPE_NAME = "recipe.yaml"
TIMINGS_NAME = "timings.json"
LOCK_NAME = ".lock"


def is_run_folder(path: Path) -> bool:
    """Tell whether a path is a run folder: a folder that keeps a resolved recipe."""
    return (path / RECIPE_NAME).is_file()


def read_recipe(run_folder: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read the recipe that a run folder was made with, and change it where overrides say so."""
    return load_recipe(run_folder / RECIPE_NAME, overrides)


def keep_recipe(run_folder: Path, recipe: Recipe) -> None:
    """Write the resolved recipe into a run folder."""
    write_recipe(recipe, run_folder / RECIPE_NAME)


@contextmanager
def keeping_recipe(run_folder: Path, recipe: Recipe) -> Iterator[list[str]]:
    """Write the resolved recipe; put the old one back when it is refused before it made anything.

    A run that is killed keeps the new recipe, so that the same run goes on; a setting that cannot
    work does not stay behind for the commands that follow.

    Yields:
        A list to put the verbs of finished stages into.
    """
    path = run_folder / RECIPE_NAME
    before = path.read_bytes() if path.is_file() else None
    keep_recipe(run_folder, recipe)
    finished: list[str] = []
    try:
        yield finished
    except (ConfigError, DataError):
        if before is not None and not finished:
            with replacing(path) as partial:
                partial.write_bytes(before)
        raise


@contextmanager
def locked(run_folder: Path) -> Iterator[None]:
    """Make a run folder if need be and hold it for this process alone.

    The operating system drops the lock when the process ends, however it ends, so a killed run
    never has to be unlocked by hand.

    Raises:
        ArtifactError: When the path is a file, or another process writes to the folder; the
            message names the process.
    """
    if run_folder.exists() and not run_folder.is_dir():
        raise ArtifactError(f"{run_folder} is a file; give a folder for the run.")
    run_folder.mkdir(parents=True, exist_ok=True)
    path = run_folder / LOCK_NAME
    with path.open("a+", encoding="ascii") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            owner = handle.read().strip() or "unknown"
            raise ArtifactError(
                f"{run_folder} is being written by another genrec (process {owner}); wait until "
                "it ends, or give another folder with --run."
            ) from error
        handle.seek(0)
        handle.truncate()
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        try:
            yield
        finally:
            handle.seek(0)
            handle.truncate()


def read_timings(run_folder: Path) -> dict[str, float]:
    """Return the seconds each stage took when it was last made; empty before the first.

    Raises:
        ArtifactError: When the file is damaged.
    """
    path = run_folder / TIMINGS_NAME
    if not path.is_file():
        return {}
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        return {str(verb): float(seconds) for verb, seconds in body.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); delete it.") from error


def record_timing(run_folder: Path, verb: str, seconds: float) -> None:
    """Note how long a stage took."""
    timings = {**read_timings(run_folder), verb: round(seconds, 3)}
    path = run_folder / TIMINGS_NAME
    with replacing(path) as partial:
        partial.write_text(json.dumps(timings, indent=2) + "\n", encoding="utf-8")
