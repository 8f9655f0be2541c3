"""A bridge between a collaborative model and a language model that is about to be trained."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genrec import artifacts
from genrec.cf.blend import load_neighbours
from genrec.cf.user_states import load_user_model
from genrec.config_bridge import BridgeConfig
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ArtifactError
from genrec.model.bridge import (
    Bridge,
    BridgedPrompts,
    item_table,
    learned_projection,
    user_registry,
)
from genrec.model.language_model import context_length
from genrec.model.soft_tokens import LearnedTable, SoftTokens, Source
from genrec.stages import verb_of
from genrec.training.dense import DenseLearner
from genrec.training.learner import Learner


def with_bridge(
    learner: Learner,
    config: BridgeConfig,
    inputs: Mapping[str, Path],
    device: torch.device,
    *,
    asked: bool = False,
    neighbours: bool = False,
    dense: DenseLearner | None = None,
) -> Learner:
    """Give a learner the soft tokens that a recipe wants.

    In a stream a vector lies on a token, and projections start with zeros, so training starts from
    the model as it would be without. In an instruction a soft token stands alone and starts about
    as large as a word. Vectors of the dense side are learned in the same training; what reads them
    starts with its full size, since they start small themselves.

    Args:
        learner: Changed in place where it has soft tokens, and given back with other prompts.
        config: Which ones.
        inputs: The folders of the run by name: ``dataset``, and those that the bridge reads.
        device: Where to compute.
        asked: Whether the collaborative model is asked for its own scores as well.
        neighbours: Whether item neighbours are asked with it.
        dense: Whose item vectors are read where ``vectors`` is ``dense``.

    Raises:
        ArtifactError: When a folder is missing, damaged or of another dataset.
        DataError: When vectors are not finite.
        ConfigError: When the language model cannot read soft tokens.
    """
    if not config.used and not asked:
        return learner
    model = learner.model
    for name in sorted({*config.folders_read, *(("cf",) if asked else ())}):
        artifacts.require_made_from(inputs[name], name, inputs["dataset"])
    users = load_user_model(inputs["cf"], device) if config.user or asked else None
    language_model: Any = model.language_model
    words = language_model.get_input_embeddings().weight.detach()
    stream = model.prompts.form == "stream"
    last_codes = model.vocabulary.tokens(model.index.codes)[:, -1]
    beside = last_codes if stream else None
    size = 0.0 if stream else float(words.float().square().mean().sqrt())
    hidden = int(words.shape[1])
    sources: dict[str, Source] = {}
    if config.items and config.vectors == "dense":
        assert dense is not None
        projection = learned_projection(dense.dimensions, hidden)
        items = len(model.catalog)
        sources["items"] = LearnedTable(items, dense.vectors_of, projection, beside)
    elif config.items:
        vectors = read_item_vectors(config.vectors, inputs, model.item_counts)
        sources["items"] = item_table(vectors, hidden, beside=beside, size=size)
    if config.user and users is not None:
        sources["users"] = user_registry(users, hidden, size=size)
    soft = SoftTokens(int(words.shape[0]), sources).to(device)
    near = load_neighbours(inputs["cf"]) if neighbours else None
    # Of items without training events the collaborative model knows nothing: it only learned that
    # they are no answer.
    rows = np.where(model.item_counts > 0, np.arange(len(model.catalog)), -1)
    bridge = Bridge(soft, users, rows, near)
    prompts = BridgedPrompts.of(model.prompts, bridge, model.tokenizer)
    # Vectors that stand alone make prompts longer, so that fewer items may fit now.
    fitting = prompts.within(model.index.levels, context_length(model.language_model))
    soft.attach(model.language_model)
    own = sum(parameter.numel() for parameter in soft.parameters())
    model.facts["bridge"] = {
        "items": config.vectors if config.items else None,
        "user": users.name if config.user and users is not None else None,
    }
    for count in ("parameters", "trained_parameters"):
        model.facts[count] += own
    return Learner(learner.trained, replace(model, prompts=fitting))


def read_item_vectors(
    name: str, inputs: Mapping[str, Path], item_counts: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the vectors of the dataset's items, float32[n, d].

    A collaborative model's vector of an item without training events says nothing: the mean of
    the others stands in.

    Args:
        name: ``joint``, ``cf`` or ``text``.
        inputs: The folders of the run by name.
        item_counts: int64[n], training events of each item of the dataset.

    Raises:
        ArtifactError: When the folder has vectors of other items.
    """
    table = EmbeddingTable.load(inputs[name], "items" if name == "cf" else "vectors")
    if len(table) != len(item_counts):
        raise ArtifactError(
            f"{inputs[name]} has vectors of {len(table)} items, the dataset has "
            f"{len(item_counts)}; run `genrec {verb_of(name)}` again."
        )
    vectors = np.array(table.vectors)
    known = item_counts > 0
    if name == "cf" and known.any():
        vectors[~known] = vectors[known].mean(axis=0)
    return vectors
