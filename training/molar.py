"""Stage molar: from item vectors and a collaborative model to a model that ranks for users."""

import logging
import shutil
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel
from torch import nn

from genrec import artifacts
from genrec.cf.epoch_training import best_epoch, write_log
from genrec.cf.graph_ranker import GraphRanker
from genrec.cf.load import load
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.cf.training_checkpoint import Checkpoint
from genrec.config import Recipe
from genrec.config_molar import MolarConfig
from genrec.data.dataset import Dataset
from genrec.data.histories import Histories
from genrec.embeddings.side_by_side import multimodal_vectors
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ArtifactError, ConfigError, DataError
from genrec.model.language_model import context_length
from genrec.model.molar import Molar
from genrec.model.user_body import body_from_scratch, pretrained_body
from genrec.model.user_model import UserModel
from genrec.runtime import Runtime
from genrec.stages import stage_of
from genrec.training import memory
from genrec.training.adapters import add_adapters
from genrec.training.context import dropped_items
from genrec.training.dropout import add_dropout
from genrec.training.frozen_users import FrozenUsers
from genrec.training.lora import merge
from genrec.training.post_alignment import PostAlignment
from genrec.training.user_training import UserSchedule, newest_items, train_users

logger = logging.getLogger(__name__)


def run(run_folder: Path, recipe: Recipe, runtime: Runtime) -> Path:
    """Train Molar's user-side model and write ``molar``.

    A stopped training goes on from ``molar.checkpoint`` when it is run again with the same recipe
    and inputs.

    Returns:
        The folder written: the language model (adapters merged, and beside it on their own), the
        layers around it, the item vectors, the catalogue and ``training.json``.

    Raises:
        ArtifactError: When an input is missing, damaged or of another dataset.
        ConfigError: When the model that is named cannot be trained, or its loss is not finite.
        DataError: When no item has a vector, or there is no training event.
    """
    section = recipe.molar
    inputs = {name: run_folder / name for name in ("dataset", *section.vectors_read)}
    dataset = Dataset.load(inputs["dataset"])
    items = item_vectors(run_folder, section, len(dataset.catalog))
    cf_model = None
    if section.alignment_weight:
        inputs["cf"] = run_folder / "cf"
        cf_model = _cf_model(run_folder, recipe, runtime)
    runtime.start()
    network = build(section, items, runtime)
    sequences = dataset.sequences()
    cut = note_cut(section, network.max_history, sequences)
    frozen = alignment = None
    if cf_model is not None:
        frozen = FrozenUsers(cf_model, newest_items(sequences, network.max_history))
        alignment = PostAlignment(
            len(network.user), frozen.dimensions, temperature=section.alignment_temperature
        ).to(network.user.device)
    config = section.model_dump(mode="json")
    digests = {name: artifacts.read_manifest(path).digest for name, path in inputs.items()}
    resumable = run_folder / "molar.checkpoint"
    started = time.perf_counter()
    with memory.explained(f"it takes {_memory(network, section)}", stage_of("molar").lower):
        log = train_users(
            network,
            sequences,
            dataset.histories("validation"),
            dataset.item_counts > 0,
            _schedule(section, runtime.seed),
            frozen=frozen,
            alignment=alignment,
            checkpoint=Checkpoint(resumable, {"config": config, "seed": runtime.seed, **digests}),
            quiet=runtime.quiet,
        )
    best = log[best_epoch(log) - 1]
    logger.info(
        "Molar: best of %d epochs is %d, validation NDCG@10 %s",
        len(log),
        best.epoch,
        "unknown" if best.ndcg_at_10 is None else f"{best.ndcg_at_10:.4f}",
    )
    facts = {
        "vectors": section.vectors,
        "language_model": section.language_model or "from scratch",
        "aligned_with": recipe.cf.vectors if frozen is not None else None,
        "validation": {"recall@10": best.recall_at_10, "ndcg@10": best.ndcg_at_10},
        **cut,
    }
    folder = run_folder / "molar"
    with artifacts.writing(
        folder,
        "molar",
        seed=runtime.seed,
        config=config,
        inputs=inputs,
        facts={"seconds": time.perf_counter() - started},
    ) as partial:
        if isinstance(network.body, PeftModel):
            network.body.save_pretrained(str(partial / "adapter"), save_embedding_layers=False)
            network.body = merge(network.body)
        Molar(network.cpu().eval(), dataset.catalog, dataset.item_counts, facts).save(partial)
        write_log(log, partial / "training.json")
    if resumable.exists():
        shutil.rmtree(resumable)
    return folder


def item_vectors(run_folder: Path, section: MolarConfig, items: int) -> NDArray[np.float32]:
    """Return what the recipe reads items as, float32[n, d], each part at length 1.

    Raises:
        ArtifactError: When a folder is missing, damaged, of another dataset, or holds no vectors.
        DataError: When not one item has a vector.
    """
    tables = {}
    for name in section.vectors_read:
        folder = run_folder / name
        artifacts.require_made_from(folder, name, run_folder / "dataset")
        if not (folder / "vectors.safetensors").is_file():
            raise ArtifactError(
                f"{folder} holds no vectors: image.method was none. Name a method and run `genrec "
                f"image {run_folder}` again, or set molar.vectors to something else."
            )
        tables[name] = EmbeddingTable.load(folder)
        if len(tables[name]) != items or not tables[name].vectors.any():
            raise DataError(
                f"{folder} has {len(tables[name])} vectors for {items} items, or all of them are "
                "zero; set molar.vectors to another kind."
            )
    if section.vectors == "multimodal":
        vectors, guess = multimodal_vectors(tables["text"], tables["image"])
        logger.info("missing pictures are guessed from texts: %s", guess.facts)
    else:
        vectors = tables[section.vectors].normalised()
    unknown = int((~vectors.any(axis=1)).sum())
    if unknown:
        logger.warning(
            "%d of %d items have no vector of %s: they are never recommended by molar, and tell it "
            "nothing where they stand in a history.",
            unknown,
            items,
            section.vectors,
        )
    return vectors


def build(section: MolarConfig, items: NDArray[np.float32], runtime: Runtime) -> UserModel:
    """Make the untrained network that a recipe describes.

    Raises:
        ConfigError: When the model that is named, or its sizes, cannot be trained.
        DependencyError: When the model that is named cannot be reached.
    """
    device = runtime.torch_device()
    longest = section.max_history
    if section.language_model is None:
        scratch = section.scratch
        body = body_from_scratch(
            hidden=scratch.hidden,
            layers=scratch.layers,
            heads=scratch.heads,
            feed_forward=scratch.feed_forward,
            max_tokens=2 * longest + 2,
        )
        add_dropout(body, scratch.dropout)
        network = UserModel(
            body, items, hidden=scratch.hidden, dropout=scratch.dropout, max_history=longest
        )
        return network.to(device)
    language_model, size = pretrained_body(
        section.language_model,
        revision=section.revision,
        dtype=runtime.torch_dtype(),
        quiet=runtime.quiet,
    )
    longest = _fitting(longest, context_length(language_model), section.language_model)
    wrapped = cast(nn.Module, add_adapters(language_model, section.lora, section="molar"))
    hidden = int(language_model.config.hidden_size)
    network = UserModel(wrapped, items, hidden=hidden, size=size, max_history=longest)
    return network.to(device)


def _fitting(wished: int, context: int | None, name: str) -> int:
    """Return the newest items that a language model can read before the user's token.

    Raises:
        ConfigError: When it cannot read a single one.
    """
    if context is None or wished < context:
        return wished
    if context < 2:
        raise ConfigError(
            f"molar.language_model {name!r} reads {context} tokens, and an item and the user take "
            "two; choose another."
        )
    return context - 1


def note_cut(section: MolarConfig, max_history: int, sequences: Histories) -> dict[str, int]:
    """Say what is left out of histories because the language model reads no more.

    Returns:
        What the facts of the model say of it; empty when nothing is left out.
    """
    if max_history == section.max_history:
        return {}
    users, items = dropped_items(sequences.lengths, max_history, section.max_history)
    logger.warning(
        "molar.max_history is %d, but %s has room for the newest %d items of a history: %d users "
        "are cut, and their %d oldest items are dropped.",
        section.max_history,
        section.language_model,
        max_history,
        users,
        items,
    )
    return {"context_users_cut": users, "context_items_dropped": items}


def _memory(network: UserModel, section: MolarConfig) -> memory.MemoryEstimate:
    """Count the memory of a step: each item is read once, and a user's token stands before it."""
    parameter = next(network.body.parameters())
    return memory.estimate(
        network.body,
        batch_tokens=2 * section.batch_items,
        width=2 * network.max_history,
        logits=section.batch_items * len(network.items),
        checkpointing=False,
        value_bytes=parameter.element_size(),
    )


def _cf_model(run_folder: Path, recipe: Recipe, runtime: Runtime) -> SasRecRanker | GraphRanker:
    """Return the collaborative model that the recipe names, checked."""
    folder = run_folder / "cf"
    artifacts.require_made_from(folder, "cf", run_folder / "dataset")
    model: Any = load(folder, recipe.cf.vectors, runtime.torch_device())
    assert isinstance(model, SasRecRanker | GraphRanker)
    return model


def _schedule(section: MolarConfig, seed: int) -> UserSchedule:
    return UserSchedule(
        epochs=section.epochs,
        patience=section.patience,
        batch_items=section.batch_items,
        learning_rate=section.learning_rate,
        weight_decay=section.weight_decay,
        loss=section.loss,
        alignment_weight=section.alignment_weight,
        seed=seed,
    )
