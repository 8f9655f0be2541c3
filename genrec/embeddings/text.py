"""Item texts to vectors: TF-IDF with a truncated SVD, or a sentence-transformers model.

The same text always gets the same vector: every distinct text is turned into a vector once, in
sorted order, so neither the order of the items nor how often a text occurs changes anything.
"""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genrec import artifacts
from genrec.config import EmbedConfig, Recipe
from genrec.data.dataset import Dataset
from genrec.embeddings.encoder_state import TfidfState
from genrec.embeddings.sentence import encode_sentences
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ArtifactError
from genrec.runtime import Runtime

logger = logging.getLogger(__name__)

Encoder = Callable[[list[str]], tuple[NDArray[np.float32], dict[str, Any]]]


def run(run_folder: Path, recipe: Recipe, runtime: Runtime) -> Path:
    """Turn the item texts of a run into vectors and write them to ``text``.

    Args:
        run_folder: Folder of the run; its ``dataset`` is read.
        recipe: The section ``embed`` says how.
        runtime: Seed, device and whether to show progress.

    Returns:
        The folder written.

    Raises:
        ConfigError: When the model named in the recipe cannot be used.
        DependencyError: When sentence-transformers or the model is not there.
    """
    section = recipe.embed
    texts = Dataset.load(run_folder / "dataset").catalog.texts
    state = None
    if section.method == "tfidf":
        distinct = distinct_texts(texts)
        state = TfidfState.fit(distinct, dimensions=section.dimensions, seed=runtime.seed)
    encoder = _by_state(state) if state else _by_sentences(section, runtime)
    table = embed_texts(texts, encoder, section.method)
    folder = run_folder / "text"
    with artifacts.writing(
        folder,
        "text",
        seed=runtime.seed,
        config=section.model_dump(mode="json"),
        inputs={"dataset": run_folder / "dataset"},
        facts=table.origin,
    ) as partial:
        table.save(partial)
        if state:
            state.save(partial)
    return folder


def _by_state(state: TfidfState) -> Encoder:
    return lambda texts: (state.encode(texts), state.facts)


def _by_sentences(section: EmbedConfig, runtime: Runtime) -> Encoder:
    return lambda texts: encode_sentences(
        texts,
        model=section.model,
        revision=section.revision,
        prompt=section.prompt,
        batch_size=section.batch_size,
        device=str(runtime.torch_device()),
        dtype=torch.bfloat16 if runtime.dtype == "bfloat16" else torch.float32,
        quiet=runtime.quiet,
    )


def embed_new_texts(
    text_folder: Path, texts: Sequence[str], runtime: Runtime, *, batch_size: int = 64
) -> EmbeddingTable:
    """Give texts that a run never saw vectors in the space of its ``text`` folder.

    Args:
        text_folder: What ``run`` wrote: it says which method, and which model with which prompt.
        texts: One text an item; may be empty.
        runtime: Device and whether to show progress.
        batch_size: sentence_transformer: texts encoded at once.

    Returns:
        float32[n, d] with the width of the run's vectors; see ``embed_texts``.

    Raises:
        ArtifactError: When the folder is missing or damaged, kept no encoder, or its model has
            other weights now.
        ConfigError: When the model cannot be loaded any more.
        DependencyError: When sentence-transformers or the model is not there.
    """
    artifacts.verify(text_folder, "text")
    origin = json.loads((text_folder / "vectors.json").read_text(encoding="utf-8"))
    width, method = int(origin["dimensions"]), str(origin["method"])
    if method == "tfidf":
        return embed_texts(texts, _by_state(TfidfState.load(text_folder)), method, width)

    def encode(distinct: list[str]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        vectors, facts = encode_sentences(
            distinct,
            model=origin["model"],
            revision=origin["revision"],
            prompt=origin["prompt"],
            batch_size=batch_size,
            device=str(runtime.torch_device()),
            dtype=torch.bfloat16 if origin["dtype"] == "bfloat16" else torch.float32,
            quiet=runtime.quiet,
        )
        if facts["weights_digest"] != origin["weights_digest"]:
            raise ArtifactError(
                f"the model {origin['model']!r} has the digest {facts['weights_digest'][:12]}, but "
                f"{text_folder} was made with {origin['weights_digest'][:12]}; its vectors are of "
                "another space. Put the old model back, or run `genrec embed "
                f"{text_folder.parent}` again, and then the stages that are stale."
            )
        return vectors, facts

    return embed_texts(texts, encode, method, width)


def distinct_texts(texts: Sequence[str]) -> list[str]:
    """Return the texts that hold more than white space, each once, sorted."""
    return sorted({text for text in texts if text.strip()})


def embed_texts(
    texts: Sequence[str], encoder: Encoder, method: str, width: int = 1
) -> EmbeddingTable:
    """Give every item the vector of its text; the same text always gets the same vector.

    Args:
        texts: One text an item; may be empty.
        encoder: Turns distinct, sorted, non-empty texts into float32[n, d] of length 1 (or 0
            where it sees nothing it knows) and facts about how.
        method: Name of the method, for ``origin``.
        width: Dimensions of the zero rows when no item has a text.

    Returns:
        float32[n, d], each row of length 1; an item without text has a zero row. ``origin``
        counts those as ``empty_texts``, and as ``zero_vectors`` together with the texts in which
        the method found nothing to read.
    """
    distinct = distinct_texts(texts)
    if distinct:
        encoded, facts = encoder(distinct)
    else:
        encoded, facts = np.zeros((0, width), dtype=np.float32), {"dimensions": width}
    row_of = {text: row for row, text in enumerate(distinct)}
    rows = np.array([row_of.get(text, len(distinct)) for text in texts], dtype=np.int64)
    padded = np.vstack([encoded, np.zeros((1, encoded.shape[1]), dtype=np.float32)])
    vectors = padded[rows]
    empty = int((rows == len(distinct)).sum())
    zero = int((~vectors.any(axis=1)).sum())
    if zero:
        logger.warning(
            "%d of %d items have no text that can be read (%d are empty); their vectors are zero. "
            "data.item_columns.text names the columns that make the text.",
            zero,
            len(texts),
            empty,
        )
    counts = {
        "items": len(texts),
        "distinct_texts": len(distinct),
        "empty_texts": empty,
        "zero_vectors": zero,
    }
    return EmbeddingTable(vectors, {"method": method, **facts, **counts})
