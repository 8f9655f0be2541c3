"""Stage cf: fit the baselines on the training part, write them and their vectors."""

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrec import artifacts
from genrec.cf.popularity import Popularity
from genrec.cf.sasrec import SasRec
from genrec.cf.sasrec_checkpoint import Checkpoint
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.cf.sasrec_training import Epoch, Schedule, best_epoch, train
from genrec.cf.transition import Transition
from genrec.config import Recipe
from genrec.data.dataset import Dataset
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ConfigError
from genrec.runtime import Runtime

logger = logging.getLogger(__name__)


def run(run_folder: Path, recipe: Recipe, runtime: Runtime) -> Path:
    """Fit popularity, transition counts and SASRec; write them with item and user vectors.

    Reads ``dataset``, writes ``cf``: the three models, the tables ``items`` (SASRec's vector of
    each catalogue row) and ``users`` (its state after each user's training items, zeros for users
    without any), and ``training.json`` with one entry an epoch. A training that was interrupted
    goes on from ``cf.checkpoint``, which is removed at the end.

    Returns:
        The folder written.

    Raises:
        ArtifactError: When the dataset is missing or damaged.
        DataError: When there is no training event.
    """
    runtime.start()
    source, folder = run_folder / "dataset", run_folder / "cf"
    dataset = Dataset.load(source)
    digest = artifacts.read_manifest(source).digest
    section = recipe.cf
    config = section.model_dump(mode="json")
    schedule = Schedule(
        epochs=section.epochs,
        patience=section.patience,
        batch_items=section.batch_items,
        learning_rate=section.learning_rate,
        weight_decay=section.weight_decay,
        seed=runtime.seed,
    )
    build = partial(
        SasRec,
        len(dataset.catalog),
        dimensions=section.dimensions,
        layers=section.layers,
        heads=section.heads,
        dropout=section.dropout,
        max_history=section.max_history,
    )
    resumable = run_folder / "cf.checkpoint"
    identity = {"config": config, "seed": runtime.seed, "dataset": digest}
    network, log = train(
        dataset.sequences(),
        dataset.histories("validation"),
        schedule,
        build,
        device=runtime.torch_device(),
        checkpoint=Checkpoint(resumable, identity),
        quiet=runtime.quiet,
    )
    best = log[best_epoch(log) - 1]
    logger.info(
        "SASRec: best of %d epochs is %d, validation NDCG@10 %s",
        len(log),
        best.epoch,
        "unknown" if best.ndcg_at_10 is None else f"{best.ndcg_at_10:.4f}",
    )
    with artifacts.writing(
        folder, "cf", seed=runtime.seed, config=config, inputs={"dataset": source}
    ) as writable:
        write(writable, dataset, SasRecRanker(network), log)
    if resumable.exists():
        shutil.rmtree(resumable)
    return folder


def write(folder: Path, dataset: Dataset, sasrec: SasRecRanker, log: Sequence[Epoch]) -> None:
    """Write the three models, SASRec's item and user vectors and the training log."""
    Popularity.fit(dataset).save(folder)
    Transition.fit(dataset).save(folder)
    sasrec.save(folder)
    origin = {"method": "sasrec", **sasrec.network.settings}
    EmbeddingTable(sasrec.item_vectors(), origin).save(folder, name="items")
    EmbeddingTable(user_vectors(sasrec, dataset), origin).save(folder, name="users")
    body = {"best_epoch": best_epoch(log), "epochs": [asdict(entry) for entry in log]}
    (folder / "training.json").write_text(json.dumps(body, indent=2) + "\n")


def user_vectors(sasrec: SasRecRanker, dataset: Dataset) -> NDArray[np.float32]:
    """Return SASRec's state after each user's training items, float32[users, d].

    Users without a training item get zeros.

    Raises:
        ConfigError: When a state is not finite: the last steps of the training were too large.
    """
    sequences = dataset.sequences()
    states = sasrec.user_vectors([sequences[i] for i in range(len(sequences))])
    if not np.isfinite(states).all():
        raise ConfigError(
            "the trained SASRec gives vectors with NaN or infinite values; lower cf.learning_rate."
        )
    vectors = np.zeros((len(dataset.user_ids), states.shape[1]), dtype=np.float32)
    vectors[sequences.user] = states
    return vectors
