"""An index that another program made, put into a run in place of one of our own."""

import logging
from pathlib import Path

from genrec.config import Recipe
from genrec.data.dataset import Dataset
from genrec.runtime import Runtime
from genrec.tokenization.build import settled, write
from genrec.tokenization.exchange import Format, KeyedBy, import_index
from genrec.tokenization.run_tables import item_tables

logger = logging.getLogger(__name__)


def import_into(
    run_folder: Path,
    path: Path,
    format: Format,
    recipe: Recipe,
    runtime: Runtime,
    *,
    keyed_by: KeyedBy = "item_id",
) -> Path:
    """Read codes from a file and write them as the run's index.

    Collisions in the file are resolved as ``index.collisions`` says. There is no quantizer, so
    the index cannot name new items.

    Args:
        run_folder: A run with a dataset.
        path: The file.
        format: What it is; see ``exchange``.
        recipe: The run's recipe.
        runtime: Seed and whether to show progress.
        keyed_by: Whether the file names items by id or by catalogue row.

    Returns:
        The folder written.

    Raises:
        ArtifactError: When the run has no dataset.
        ConfigError: When items share codes and the policy needs distances, which a file has not.
        DataError: When the file cannot be read or has no codes for some item.
    """
    dataset = Dataset.load(run_folder / "dataset")
    found = import_index(path, format, dataset.catalog.item_ids, keyed_by=keyed_by)
    if found.extra:
        logger.warning(
            "%s has codes for %d items that the catalogue does not have; they are left out.",
            path,
            len(found.extra),
        )
    section = recipe.index
    built = settled(
        found.complete(),
        item_tables(dataset, section, None, {}),
        section.collisions,
        facts={"method": "imported", "file": path.name, "format": format},
        seed=runtime.seed,
        quiet=runtime.quiet,
    )
    inputs = {"dataset": run_folder / "dataset"}
    return write(run_folder, built, section, dataset, runtime, inputs=inputs)
