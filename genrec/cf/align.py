"""Stage align: from cf and text vectors to one joint vector an item (stage 1 of A-LLMRec)."""

import json
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrec import artifacts
from genrec.cf.joint import JointWeights, joint_vectors
from genrec.cf.joint_training import JointData, JointSchedule, train_joint
from genrec.cf.user_states import UserModel, load_user_model
from genrec.config import Recipe
from genrec.data.dataset import Dataset
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ArtifactError
from genrec.runtime import Runtime

logger = logging.getLogger(__name__)


def run(run_folder: Path, recipe: Recipe, runtime: Runtime) -> Path:
    """Learn joint vectors and write them to ``joint``.

    Reads ``dataset``, ``cf`` and ``text``; learns from training events only. Writes the table
    ``vectors`` and ``training.json``, each loss of each epoch.

    Returns:
        The folder written.

    Raises:
        ArtifactError: When an input is missing, damaged or of another dataset.
        DataError: When vectors are not finite, or no user has two training events.
        ConfigError: When all losses are off, or the training went wrong.
    """
    runtime.start()
    inputs = {name: run_folder / name for name in ("dataset", "cf", "text")}
    dataset = Dataset.load(inputs["dataset"])
    for name in ("cf", "text"):
        artifacts.require_made_from(inputs[name], name, inputs["dataset"])
    data = joint_data(
        dataset,
        EmbeddingTable.load(inputs["cf"], "items"),
        EmbeddingTable.load(inputs["text"]),
        load_user_model(inputs["cf"], runtime.torch_device()),
    )
    section = recipe.align
    network, log = train_joint(
        data,
        JointWeights(
            section.match,
            section.item_reconstruction,
            section.text_reconstruction,
            section.recommendation,
        ),
        JointSchedule(section.epochs, section.batch, section.learning_rate, runtime.seed),
        dimensions=section.dimensions,
        device=runtime.torch_device(),
        quiet=runtime.quiet,
    )
    vectors = joint_vectors(
        network, data.items, data.texts, known=data.known, has_text=data.has_text
    )
    counts = {
        "items": len(data.known),
        "by_text": int((~data.known & data.has_text).sum()),
        "by_mean": int((~data.known & ~data.has_text).sum()),
        "without_text": int((~data.has_text).sum()),
    }
    logger.info(
        "joint vectors of %(items)d items: %(by_text)d without training events by their text, "
        "%(by_mean)d with neither by the mean; %(without_text)d have no text",
        counts,
    )
    origin = {"method": "a-llmrec", "dimensions": section.dimensions, **counts}
    folder = run_folder / "joint"
    with artifacts.writing(
        folder,
        "joint",
        seed=runtime.seed,
        config=section.model_dump(mode="json"),
        inputs=inputs,
        facts={**counts, "losses": log[-1]},
    ) as partial:
        EmbeddingTable(vectors, origin).save(partial)
        (partial / "training.json").write_text(json.dumps(log, indent=2) + "\n")
    return folder


def joint_data(
    dataset: Dataset, items: EmbeddingTable, texts: EmbeddingTable, model: UserModel
) -> JointData:
    """Put together what joint vectors are learned from.

    Args:
        dataset: Its training part alone is read.
        items: Vectors of the collaborative model.
        texts: Vectors of the texts.
        model: Gives the states of users.

    Raises:
        ArtifactError: When a table has not one row an item.
    """
    count = len(dataset.catalog)
    for name, table in (("cf", items), ("text", texts)):
        if len(table) != count:
            raise ArtifactError(
                f"the {name} vectors are of {len(table)} items, the dataset has {count}; run the "
                "stage that makes them again."
            )
    sequences = dataset.sequences()
    users = np.flatnonzero(sequences.lengths >= 2)
    histories = [sequences[int(user)] for user in users]
    chosen = np.asarray([history[-1] for history in histories], dtype=np.int64)
    owner = np.repeat(np.arange(len(users)), [len(history) for history in histories])
    keys = owner * count + (np.concatenate(histories) if histories else owner)
    return JointData(
        items=np.asarray(items.vectors),
        texts=np.asarray(texts.vectors),
        known=dataset.item_counts > 0,
        has_text=_has_text(dataset.catalog.texts),
        states=model.user_vectors([history[:-1] for history in histories]),
        chosen=chosen,
        seen=np.unique(keys),
    )


def _has_text(texts: list[str]) -> NDArray[np.bool_]:
    return np.asarray([bool(text.strip()) for text in texts], dtype=bool)
