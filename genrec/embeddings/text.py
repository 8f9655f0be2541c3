"""Item texts to vectors: TF-IDF with a truncated SVD, or a sentence-transformers model.

The same text always gets the same vector: every distinct text is turned into a vector once, in
sorted order, so neither the order of the items nor how often a text occurs changes anything.
"""

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
from genrec.embeddings.sentence import encode_sentences
from genrec.embeddings.table import EmbeddingTable
from genrec.runtime import Runtime

logger = logging.getLogger(__name__)

# A run of word characters is a token. Chinese and Japanese put no spaces between words, so
# there each character is a token, and the pairs of tokens below stand for words.
_UNSPACED = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
TOKEN_PATTERN = rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])\w)+"
# Terms beyond the most frequent ones occur in one item or two and say nothing about likeness.
MAX_TERMS = 200_000
SVD_ITERATIONS = 5

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
    dataset = Dataset.load(run_folder / "dataset")
    table = embed_texts(dataset.catalog.texts, _encoder(section, runtime), section.method)
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
    return folder


def _encoder(section: EmbedConfig, runtime: Runtime) -> Encoder:
    if section.method == "tfidf":
        return lambda texts: encode_tfidf(texts, dimensions=section.dimensions, seed=runtime.seed)
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


def embed_texts(texts: Sequence[str], encoder: Encoder, method: str) -> EmbeddingTable:
    """Give every item the vector of its text; the same text always gets the same vector.

    Args:
        texts: One text an item; may be empty.
        encoder: Turns distinct, sorted, non-empty texts into float32[n, d] of length 1 (or 0
            where it sees nothing it knows) and facts about how.
        method: Name of the method, for ``origin``.

    Returns:
        float32[n, d], each row of length 1; an item without text has a zero row. ``origin``
        counts those as ``empty_texts``, and as ``zero_vectors`` together with the texts in which
        the method found nothing to read.
    """
    distinct = sorted({text for text in texts if text.strip()})
    if distinct:
        encoded, facts = encoder(distinct)
    else:
        encoded, facts = np.zeros((0, 1), dtype=np.float32), {"dimensions": 1}
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


def encode_tfidf(
    texts: list[str], *, dimensions: int, seed: int
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Turn texts into vectors by the words and word pairs they share (latent semantic analysis).

    Term counts are damped, ``1 + ln(count)``, weighted by ``ln((1 + n) / (1 + df)) + 1``, scaled to
    length 1, and projected on the first singular vectors; Deerwester et al., "Indexing by Latent
    Semantic Analysis", 1990.

    Args:
        texts: Distinct texts.
        dimensions: Most dimensions to keep; fewer are kept when there are fewer texts or terms.
        seed: Seed of the randomised SVD.

    Returns:
        float32[n, d] of length 1, zero where a text holds no word or shares nothing with the
        dimensions kept; and the facts ``dimensions``, ``terms`` and ``kept`` (share of the
        squared length that the projection keeps).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.utils.extmath import randomized_svd

    vectorizer = TfidfVectorizer(
        sublinear_tf=True,
        ngram_range=(1, 2),
        token_pattern=TOKEN_PATTERN,
        strip_accents="unicode",
        max_features=MAX_TERMS,
    )
    tokenize = vectorizer.build_analyzer()
    if not any(tokenize(text) for text in texts):
        return np.zeros((len(texts), 1), dtype=np.float32), {"dimensions": 1, "terms": 0}
    terms = vectorizer.fit_transform(texts)
    kept = min(dimensions, *terms.shape)
    if kept < dimensions:
        logger.info(
            "text vectors have %d dimensions, not %d: %d distinct texts, %d terms.",
            kept,
            dimensions,
            *terms.shape,
        )
    components = randomized_svd(terms, kept, n_iter=SVD_ITERATIONS, random_state=seed)[2]
    vectors = terms @ components.T
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    # What is left of a text that shares nothing with the dimensions kept is rounding noise.
    vectors = np.where(length > 1e-6, vectors / np.maximum(length, 1e-6), 0).astype(np.float32)
    total = float(terms.multiply(terms).sum())
    share = float((length**2).sum()) / total
    facts = {"dimensions": kept, "terms": int(terms.shape[1]), "kept": round(share, 4)}
    return vectors, facts
