"""An index that lives: items come and go, and the model that was trained on it stays.

``RUN/index`` is generation 1, what the model is trained on, and is never changed. Each later
generation is a whole folder, ``RUN/index.generations/N``, made from the one before it by adding
or removing items. It holds the codes and the catalogue of all its items: those that were there in
their order and with their codes, new ones behind them.

A removed item leaves no row behind, so rows are counted anew in every generation, and ids are what
names an item across them. Nothing the model learned depends on rows: it knows codes. The codes of
a removed item are free for others. An item that the model was trained with and that comes back
gets its old codes, if they are still free: they are what the model knows it by.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from genrec import artifacts
from genrec.data.catalog import Catalog
from genrec.errors import DataError
from genrec.run_folder import locked
from genrec.runtime import Runtime
from genrec.semantic_ids.generations import FOLDER, Generation, verified
from genrec.semantic_ids.item_index import ItemIndex
from genrec.tokenization.arrivals import place, read_arrivals

logger = logging.getLogger(__name__)

_SHOWN = 5


@dataclass(frozen=True)
class _Newest:
    """The chain, and what its last generation holds."""

    chain: list[Generation]
    index: ItemIndex
    catalog: Catalog


def add(run_folder: Path, items_file: Path, runtime: Runtime) -> Path:
    """Give codes to the new items of a file and write the next generation.

    Besides the codes and the catalogue, the folder holds what its new items were encoded from
    (``added.safetensors``, and ``added_text.safetensors``: row i is the i-th of the last rows of
    the catalogue) and ``quarantine.parquet``, every row of the file that was not taken: which and
    why.

    Args:
        run_folder: A run that has an index.
        items_file: Parquet, CSV, TSV or JSON lines, with the columns of the run's item file.
        runtime: Device and whether to show progress.

    Returns:
        The folder written.

    Raises:
        ArtifactError: When a folder is missing, damaged or does not belong to the others, the run
            kept no text encoder, or another process writes to it.
        ConfigError: When the index was made by a method that cannot encode new items.
        DataError: When the file cannot be read, or none of its items can be added.
    """
    artifacts.read_manifest(run_folder / "index", "index")
    with locked(run_folder):
        newest = _open(run_folder)
        items = read_arrivals(run_folder, items_file, newest.catalog)
        placed = place(run_folder, items, newest.index, newest.catalog, runtime)
        catalog = Catalog(pl.concat([newest.catalog.table, placed.items.table]))
        codes = np.concatenate([newest.index.codes, placed.codes])
        counts = {"removed": 0, **placed.counts()}
        with _writing(run_folder, newest, codes, catalog, counts) as (folder, partial):
            placed.save(partial)
    logger.info(
        "generation %s: %d items added from %s, %d of its rows refused; %d items now.",
        folder.name, len(placed.codes), items_file, counts["refused"], len(catalog),
    )  # fmt: skip
    return folder


def remove(run_folder: Path, item_ids: Sequence[str]) -> Path:
    """Take items out of the index and write the next generation.

    The folder also holds their ids, as ``removed.parquet``.

    Args:
        run_folder: A run that has an index.
        item_ids: Ids of the newest generation.

    Returns:
        The folder written.

    Raises:
        ArtifactError: When a folder is missing, damaged or does not belong to the others, or
            another process writes to the run.
        DataError: When no id is given, one is not in the index, or no item would be left.
    """
    artifacts.read_manifest(run_folder / "index", "index")
    with locked(run_folder):
        newest = _open(run_folder)
        gone = list(dict.fromkeys(item_ids))
        keep = _kept(newest.catalog, gone)
        catalog = Catalog(newest.catalog.table.filter(pl.Series(keep)))
        counts = {"added": 0, "removed": len(gone)}
        codes = newest.index.codes[keep]
        with _writing(run_folder, newest, codes, catalog, counts) as (folder, partial):
            pl.DataFrame({"item_id": gone}).write_parquet(partial / "removed.parquet")
    logger.info(
        "generation %s: %d items removed; %d items now.", folder.name, len(gone), len(catalog)
    )
    return folder


def _open(run_folder: Path) -> _Newest:
    """Read the newest generation.

    Raises:
        ArtifactError: See ``verified``.
    """
    chain = verified(run_folder)
    newest = chain[-1].folder
    catalog = Catalog.load(run_folder / "dataset" if len(chain) == 1 else newest)
    return _Newest(chain, ItemIndex.load(newest), catalog)


def _kept(catalog: Catalog, gone: Sequence[str]) -> NDArray[np.bool_]:
    """Return bool[n], false for the items to remove."""
    rows, unknown = catalog.rows(gone)
    if unknown or not gone:
        shown = ", ".join(repr(item_id) for item_id in unknown[:_SHOWN])
        what = f"{len(unknown)} of {len(gone)} ids are not in it, as {shown}" if gone else "no id"
        raise DataError(
            f"nothing is removed from the index: {what}. Give ids of its newest generation."
        )
    keep = np.ones(len(catalog), dtype=bool)
    keep[rows] = False
    if not keep.any():
        raise DataError(f"all {len(catalog)} items would be removed; an index needs at least one.")
    return keep


@contextmanager
def _writing(
    run_folder: Path,
    newest: _Newest,
    codes: NDArray[np.int32],
    catalog: Catalog,
    counts: dict[str, int],
) -> Iterator[tuple[Path, Path]]:
    """Write the next generation; yields its folder and the partial one to put more files into."""
    root, parent = newest.chain[0], newest.chain[-1]
    manifest = artifacts.read_manifest(root.folder)
    number = parent.number + 1
    folder = run_folder / FOLDER / str(number)
    facts = {
        "generation": number,
        "root": root.digest,
        "parent": parent.digest,
        "items": len(catalog),
        **counts,
    }
    old = newest.index
    index = ItemIndex(codes, old.level_sizes, {**old.facts, "generation": number}, old.shared)
    with artifacts.writing(
        folder,
        "index",
        seed=manifest.seed,
        config=manifest.config,
        inputs={"index": root.folder, "parent": parent.folder},
        facts=facts,
    ) as partial:
        index.save(partial)
        catalog.save(partial)
        yield folder, partial
