"""Stage cf: fit the baselines on the training part, write them and their vectors."""

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrec import artifacts
from genrec.cf.blend import Blend
from genrec.cf.earlier import Earlier
from genrec.cf.epoch_training import write_log
from genrec.cf.fit_sasrec import FittedSasRec, SasRecName, fit_sasrec
from genrec.cf.graph_ranker import GraphRanker
from genrec.cf.item_knn import ItemKnn
from genrec.cf.lightgcn_training import GraphSchedule
from genrec.cf.lightgcn_training import train as train_graph
from genrec.cf.popularity import Popularity
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.cf.training_checkpoint import Checkpoint
from genrec.cf.transition import Transition
from genrec.config import CfConfig, Recipe
from genrec.data.dataset import Dataset
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ConfigError
from genrec.runtime import Runtime


def run(run_folder: Path, recipe: Recipe, runtime: Runtime) -> Path:
    """Fit the baselines and write them with item and user vectors.

    Reads ``dataset``, writes ``cf``: popularity, transition counts, SASRec and what ``cf.models``
    adds; the tables ``items`` (a vector of each catalogue row) and ``users`` (one after each
    user's training items, zeros for users without any) of the model that ``cf.vectors`` names; and
    ``training.json`` with one entry an epoch. A training that was interrupted goes on from
    ``cf.checkpoint``, which is removed at the end.

    Returns:
        The folder written.

    Raises:
        ArtifactError: When the dataset is missing or damaged.
        DataError: When there is no training event.
        ConfigError: When ``cf.vectors`` or a blend needs a model that is not fitted.
    """
    require_models(recipe)
    runtime.start()
    source, folder = run_folder / "dataset", run_folder / "cf"
    dataset = Dataset.load(source)
    digest = artifacts.read_manifest(source).digest
    section = recipe.cf
    config = section.model_dump(mode="json")
    resumable = run_folder / "cf.checkpoint"
    identity = {"config": config, "seed": runtime.seed, "dataset": digest}
    earlier, device = Earlier.of(folder, digest, runtime.seed), runtime.torch_device()

    def sasrec_of(name: SasRecName, checkpoint_folder: Path) -> FittedSasRec:
        return earlier.sasrec(name, section, device) or fit_sasrec(
            name, dataset, section, runtime, Checkpoint(checkpoint_folder, identity)
        )

    sasrec = sasrec_of("sasrec", resumable)
    fitted: dict[str, SasRecRanker | GraphRanker] = {"sasrec": sasrec.ranker}
    with artifacts.writing(
        folder, "cf", seed=runtime.seed, config=config, inputs={"dataset": source}
    ) as writable:
        Popularity.fit(dataset).save(writable)
        Transition.fit(dataset).save(writable)
        sasrec.save(writable)
        if "transition_sasrec" in section.models:
            aware = sasrec_of("transition_sasrec", resumable / "transition_sasrec")
            aware.save(writable)
            fitted["transition_sasrec"] = aware.ranker
        if "item_knn" in section.models:
            fit_item_knn(dataset, section).save(writable)
        for name in ("lightgcn", "bpr"):
            if name in section.models:
                checkpoint = Checkpoint(resumable / name, identity)
                fitted[name] = earlier.graph(name, section, writable) or fit_graph(
                    name, dataset, section, runtime, checkpoint, writable
                )
        write_vectors(writable, dataset, fitted[section.vectors])
        if "blend" in section.models:
            neighbours = ItemKnn.load(writable)
            held_out = dataset.histories("validation")
            model = fitted[section.vectors]
            Blend.fit(model, neighbours, held_out, quiet=runtime.quiet).save(writable)
    if resumable.exists():
        shutil.rmtree(resumable)
    return folder


def require_models(recipe: Recipe) -> None:
    """Refuse a recipe that reads from this stage what it does not fit.

    Raises:
        ConfigError: When ``cf.vectors`` or a blend needs a model that is not fitted.
    """
    if recipe.cf.vectors not in ("sasrec", *recipe.cf.models):
        raise ConfigError(
            f"cf.vectors is {recipe.cf.vectors}, which cf.models does not name; add it there, or "
            "take sasrec."
        )
    if "blend" in recipe.cf.models and "item_knn" not in recipe.cf.models:
        raise ConfigError("cf.models names blend, which needs item_knn; name that as well.")
    if recipe.train.dense.asks_neighbours and "blend" not in recipe.cf.models:
        raise ConfigError(
            "train.dense.cf is blend, which cf.models does not name; add item_knn and blend there, "
            "or set train.dense.cf to true."
        )


def fit_item_knn(dataset: Dataset, section: CfConfig) -> ItemKnn:
    """Count item neighbours as the recipe says."""
    settings = section.item_knn
    return ItemKnn.fit(
        dataset,
        neighbours=settings.neighbours,
        shrinkage=settings.shrinkage,
        decay=settings.decay,
    )


def fit_graph(
    name: str,
    dataset: Dataset,
    section: CfConfig,
    runtime: Runtime,
    checkpoint: Checkpoint,
    folder: Path,
) -> GraphRanker:
    """Train LightGCN or BPR and write it with its log.

    Args:
        name: ``lightgcn`` or ``bpr``.
        dataset: Its training part is learned from; its validation part chooses the epoch.
        section: The recipe of the cf stage.
        runtime: Seed and device, and whether a bar is shown.
        checkpoint: Where to save and to go on from.
        folder: Where to write.
    """
    graph = section.graph
    schedule = GraphSchedule(
        epochs=graph.epochs,
        patience=graph.patience,
        every=graph.every,
        batch=graph.batch,
        learning_rate=graph.learning_rate,
        regularisation=graph.regularisation,
        seed=runtime.seed,
    )
    network, log = train_graph(
        dataset.sequences(),
        dataset.histories("validation"),
        len(dataset.catalog),
        schedule,
        dimensions=graph.dimensions,
        layers=graph.layers if name == "lightgcn" else 0,
        device=runtime.torch_device(),
        checkpoint=checkpoint,
        quiet=runtime.quiet,
    )
    ranker = GraphRanker.of(network)
    ranker.save(folder)
    write_log(log, folder / f"{name}.json")
    return ranker


def write_vectors(folder: Path, dataset: Dataset, model: SasRecRanker | GraphRanker) -> None:
    """Write the item and user vectors of a model.

    Raises:
        ConfigError: When a vector is not finite: the last steps of the training were too large.
    """
    items = model.items if isinstance(model, GraphRanker) else model.item_vectors()
    origin = {"method": model.name, "dimensions": items.shape[1]}
    EmbeddingTable(items, origin).save(folder, name="items")
    EmbeddingTable(user_vectors(model, dataset), origin).save(folder, name="users")


def user_vectors(model: SasRecRanker | GraphRanker, dataset: Dataset) -> NDArray[np.float32]:
    """Return a model's vector after each user's training items, float32[users, d].

    Users without a training item get zeros.

    Raises:
        ConfigError: When a state is not finite: the last steps of the training were too large.
    """
    sequences = dataset.sequences()
    states = model.user_vectors([sequences[i] for i in range(len(sequences))])
    if not np.isfinite(states).all():
        raise ConfigError(
            f"the trained {model.name} gives vectors with NaN or infinite values; lower its "
            "learning_rate."
        )
    vectors = np.zeros((len(dataset.user_ids), states.shape[1]), dtype=np.float32)
    vectors[sequences.user] = states
    return vectors
