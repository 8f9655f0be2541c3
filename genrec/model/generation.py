"""A trained model with a later generation of its index: other items, the same weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrec import artifacts
from genrec.data.catalog import Catalog
from genrec.errors import ArtifactError
from genrec.model.bridge import BridgedPrompts
from genrec.model.generative import GenerativeModel
from genrec.semantic_ids.item_index import ItemIndex


def with_generation(model: GenerativeModel, folder: Path) -> GenerativeModel:
    """Return the model with the items of a generation instead of those it was trained with.

    The weights know codes, not items, and a generation only gives codes that the trained index
    has. Items that came after training have no training events: their count is 0.

    With a bridge, the language model reads the soft tokens of the generation from then on; load
    the model again for those it was trained with.

    Args:
        model: A trained model as it was loaded, so that what was removed and came back is known
            by its training events.
        folder: ``RUN/index.generations/N``.

    Raises:
        ArtifactError: When the folder is missing or damaged, is no generation, or comes from
            another index than the model was trained on; when the model has a later generation.
    """
    if "generation" in model.facts:
        raise ArtifactError(
            f"the model has generation {model.facts['generation']} already, which may lack items "
            "it was trained on; load it again for another one."
        )
    manifest = artifacts.verify(folder, "index")
    trained_on, root = str(model.facts.get("index_digest")), manifest.facts.get("root")
    if root is None:
        raise ArtifactError(
            f"{folder} is no generation of an index; give one of index.generations, or serve the "
            "model as it is."
        )
    if root != trained_on:
        raise ArtifactError(
            f"{folder} is a generation of index {str(root)[:12]}, but the model was trained on "
            f"{trained_on[:12]}. Train the model again, or add the items to the index it knows."
        )
    index, catalog = ItemIndex.load(folder), Catalog.load(folder)
    if index.level_sizes != model.index.level_sizes:
        raise ArtifactError(
            f"{folder} has levels of {index.level_sizes} codes, the model has tokens for "
            f"{model.index.level_sizes}; it is damaged. Delete it and add the items again."
        )
    rows = _rows_of(model.catalog, catalog)
    counts = np.where(rows >= 0, model.item_counts[rows], 0).astype(np.int64)
    facts = {
        **model.facts,
        "generation": int(manifest.facts["generation"]),
        "generation_digest": manifest.digest,
    }
    dense = model.dense and model.dense.for_items(rows, model.index.codes, index.codes)
    grown = replace(
        model, index=index, catalog=catalog, item_counts=counts, facts=facts, dense=dense
    )
    return _with_bridge(grown, model, rows)


def _with_bridge(
    grown: GenerativeModel, model: GenerativeModel, rows: NDArray[np.int64]
) -> GenerativeModel:
    """Give the soft tokens of a bridge, where there is one, to the items of a generation."""
    bridge, prompts = model.bridge, model.prompts
    if bridge is None or not isinstance(prompts, BridgedPrompts):
        return grown
    tokens = model.vocabulary.tokens(grown.index.codes)
    wider = bridge.for_items(rows, model.index.codes, grown.index.codes, tokens)
    bridge.soft.detach_from(model.language_model)
    wider.soft.attach(grown.language_model)
    return replace(grown, prompts=replace(prompts, bridge=wider))


def _rows_of(old: Catalog, new: Catalog) -> NDArray[np.int64]:
    """Return the row in the old catalogue of each item of the new one, int64[n]; -1 for none."""
    row_of = {item_id: row for row, item_id in enumerate(old.item_ids)}
    return np.array([row_of.get(item_id, -1) for item_id in new.item_ids], dtype=np.int64)
