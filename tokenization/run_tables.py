"""What a run knows of its items: the tables that an indexer may learn from, read from folders."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec import artifacts
from genrec.cf.epoch_training import Schedule
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.cf.training_checkpoint import Checkpoint
from genrec.config_index import AlignmentConfig, IndexConfig
from genrec.data.dataset import Dataset
from genrec.data.histories import Histories
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ArtifactError
from genrec.runtime import Runtime
from genrec.tokenization.alignment_training import align
from genrec.tokenization.classic_semantic import category_paths, usual_column
from genrec.tokenization.fusion import Fusion, fuse, fuse_aligned
from genrec.tokenization.indexer import ItemTables

# Folder of the run and name of the table in it.
_TABLES = {"cf": "items", "text": "vectors", "image": "vectors"}


def read_vectors(run_folder: Path, section: IndexConfig, items: int) -> dict[str, EmbeddingTable]:
    """Read the tables of vectors that the section asks for, checked to be of the run's dataset.

    Raises:
        ArtifactError: When a folder is missing, damaged or was made from another dataset.
    """
    return {name: _table(run_folder, name, items) for name in section.vectors_read}


def _table(run_folder: Path, name: str, items: int) -> EmbeddingTable:
    folder = run_folder / name
    artifacts.require_made_from(folder, name, run_folder / "dataset")
    table = EmbeddingTable.load(folder, _TABLES[name])
    if len(table) != items:
        raise ArtifactError(
            f"{folder} has {len(table)} vectors, but {run_folder / 'dataset'} has {items} items; "
            f"run the stage that writes {folder.name} again."
        )
    return table


def fused(
    run_folder: Path,
    section: IndexConfig,
    dataset: Dataset,
    tables: dict[str, EmbeddingTable],
    runtime: Runtime,
) -> Fusion | None:
    """Return the vectors to quantize; None for a method that reads none.

    Raises:
        DataError: When the vectors hold nothing to learn from.
    """
    if not section.quantizes:
        return None
    has_events = dataset.item_counts > 0
    if section.vectors != "aligned":
        store = checkpoint_folder(run_folder) / "vectors.safetensors"
        return fuse(section.vectors, tables, has_events=has_events, store=store)
    config = section.alignment
    folder = run_folder / "cf"
    alignment = align(
        SasRecRanker.load(folder).network,
        tables["text"],
        dataset.sequences(),
        Schedule(
            epochs=config.epochs,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            seed=runtime.seed,
        ),
        temperature=config.temperature,
        weight=config.weight,
        device=runtime.torch_device(),
        precision=runtime.torch_dtype(),
        checkpoint=Checkpoint(
            checkpoint_folder(run_folder) / "alignment", _identity(run_folder, config, runtime.seed)
        ),
        quiet=runtime.quiet,
    )
    return fuse_aligned(alignment, tables["text"], has_events=has_events)


def checkpoint_folder(run_folder: Path) -> Path:
    """Return where the index stage of a run keeps what it goes on from after a stop."""
    return run_folder / "index.checkpoint"


def _identity(run_folder: Path, config: AlignmentConfig, seed: int) -> dict[str, Any]:
    digests = {name: artifacts.read_manifest(run_folder / name).digest for name in ("cf", "text")}
    return {"config": config.model_dump(mode="json"), "seed": seed, **digests}


def item_tables(
    dataset: Dataset,
    section: IndexConfig,
    vectors: NDArray[np.float32] | None,
    tables: dict[str, EmbeddingTable],
) -> ItemTables:
    """Return all that is known of the items: what indexers learn from and reports compare with."""
    column = section.classic.categories or usual_column(dataset.catalog)
    return ItemTables(
        item_ids=dataset.catalog.item_ids,
        titles=dataset.catalog.titles,
        vectors=vectors,
        collaborative=_collaborative(tables["cf"], dataset) if "cf" in tables else None,
        sequences=_by_first_event(dataset),
        categories=None if column is None else category_paths(dataset.catalog, column),
    )


def _collaborative(cf: EmbeddingTable, dataset: Dataset) -> NDArray[np.float32]:
    """Return the cf vectors at length 1; zero for items whose vectors no event has shaped."""
    unit = cf.normalised()
    unit[dataset.item_counts == 0] = 0
    return unit


def _by_first_event(dataset: Dataset) -> Histories:
    """Return the training sequences, the users who began first in front."""
    sequences = dataset.sequences()
    first = sequences.offsets[:-1]
    return sequences.take(np.argsort(dataset.train.time[first], kind="stable"))
