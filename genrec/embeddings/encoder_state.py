"""The encoder that a run fitted to its texts: it gives new texts vectors in the same space."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from genrec.errors import ArtifactError

logger = logging.getLogger(__name__)

NAME = "encoder"
# A run of word characters is a token. Chinese and Japanese put no spaces between words, so
# there each character is a token, and the pairs of tokens below stand for words.
_UNSPACED = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
TOKEN_PATTERN = rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])\w)+"
TOKENS_A_TERM = (1, 2)
# Terms beyond the most frequent ones occur in one item or two and say nothing about likeness.
MAX_TERMS = 200_000
SVD_ITERATIONS = 5


@dataclass(frozen=True)
class TfidfState:
    """Texts to vectors by the words and word pairs they share (latent semantic analysis).

    Term counts are damped, ``1 + ln(count)``, weighted by ``ln((1 + n) / (1 + df)) + 1``, scaled to
    length 1, and projected on the first singular vectors; Deerwester et al., "Indexing by Latent
    Semantic Analysis", 1990. Terms that were not in the texts it was fitted to count for nothing.

    Attributes:
        terms: Words and pairs of words, t of them, in the order of the columns.
        weights: float64[t], what each term weighs.
        components: float32[d, t], the singular vectors.
        facts: ``dimensions``, ``terms`` and ``kept`` (share of the squared length of the fitted
            texts that the projection keeps).
    """

    terms: tuple[str, ...]
    weights: NDArray[np.float64]
    components: NDArray[np.float32]
    facts: dict[str, Any]

    @classmethod
    def fit(cls, texts: Sequence[str], *, dimensions: int, seed: int) -> "TfidfState":
        """Learn terms, weights and directions.

        Args:
            texts: Distinct texts.
            dimensions: Most dimensions to keep; fewer are kept when there are fewer texts or
                terms, and one, always zero, when no text holds a word.
            seed: Seed of the randomised SVD.
        """
        from sklearn.utils.extmath import randomized_svd

        counter = _counter(max_features=MAX_TERMS)
        read = counter.build_analyzer()
        if not any(read(text) for text in texts):
            nothing = np.zeros((1, 0), dtype=np.float32)
            return cls((), np.zeros(0), nothing, {"dimensions": 1, "terms": 0})
        counts = counter.fit_transform(texts)
        # The order of the entries decides how sums round; ``encode`` counts in sorted order.
        counts.sort_indices()
        texts_with = np.bincount(counts.indices, minlength=counts.shape[1])
        weights = np.log((1 + len(texts)) / (1 + texts_with)) + 1
        weighted = _weighted(counts, weights)
        kept = min(dimensions, *weighted.shape)
        if kept < dimensions:
            logger.info(
                "text vectors have %d dimensions, not %d: %d distinct texts, %d terms.",
                kept,
                dimensions,
                *weighted.shape,
            )
        directions = randomized_svd(weighted, kept, n_iter=SVD_ITERATIONS, random_state=seed)[2]
        components = np.ascontiguousarray(directions, dtype=np.float32)
        share = float(((weighted @ components.T) ** 2).sum() / weighted.multiply(weighted).sum())
        facts = {"dimensions": kept, "terms": len(weights), "kept": round(share, 4)}
        return cls(tuple(counter.get_feature_names_out()), weights, components, facts)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[n, d] of length 1; zero for texts that share nothing with the fitted.

        A text gets the same vector, to the bit, whatever texts are encoded with it.
        """
        if not self.terms or not len(texts):
            return np.zeros((len(texts), len(self.components)), dtype=np.float32)
        counts = _counter(vocabulary=self.terms).transform(texts)
        vectors = _weighted(counts, self.weights) @ self.components.T
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        # What is left of a text that shares nothing with the dimensions kept is rounding noise.
        scaled = np.where(length > 1e-6, vectors / np.maximum(length, 1e-6), 0)
        return np.asarray(scaled, dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write ``encoder.safetensors`` and ``encoder.json`` into the folder."""
        arrays: dict[str, NDArray[Any]] = {
            "weights": self.weights,
            "components": self.components,
        }
        save_file(arrays, folder / f"{NAME}.safetensors")
        body = {
            "method": "tfidf",
            "token_pattern": TOKEN_PATTERN,
            "facts": self.facts,
            "terms": self.terms,
        }
        text = json.dumps(body, indent=1, ensure_ascii=False)
        (folder / f"{NAME}.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "TfidfState":
        """Read what ``save`` wrote.

        Raises:
            ArtifactError: When the folder is from before encoders were kept, or its texts were cut
                into words in another way.
        """
        path = folder / f"{NAME}.json"
        if not path.is_file():
            raise ArtifactError(
                f"{folder} has no {path.name}: an older genrec made it and did not keep the "
                f"encoder, so new texts cannot get vectors in its space. Run `genrec embed "
                f"{folder.parent}` again, and then the stages that are stale."
            )
        body = json.loads(path.read_text(encoding="utf-8"))
        if body["method"] != "tfidf" or body["token_pattern"] != TOKEN_PATTERN:
            raise ArtifactError(
                f"{path} is of method {body['method']!r} or cuts texts into words by another rule "
                f"than this genrec. Run `genrec embed {folder.parent}` again, and then the stages "
                "that are stale."
            )
        arrays = load_file(folder / f"{NAME}.safetensors")
        return cls(tuple(body["terms"]), arrays["weights"], arrays["components"], body["facts"])


def _counter(**settings: Any) -> Any:  # noqa: ANN401 - sklearn has no types
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(
        ngram_range=TOKENS_A_TERM,
        token_pattern=TOKEN_PATTERN,
        strip_accents="unicode",
        dtype=np.float64,
        **settings,
    )


def _weighted(counts: Any, weights: NDArray[np.float64]) -> Any:  # noqa: ANN401 - a sparse matrix
    """Return sparse counts [n, t] damped, weighted and scaled to rows of length 1."""
    from sklearn.preprocessing import normalize

    weighted = counts.copy()
    weighted.data = (1 + np.log(counts.data)) * weights[counts.indices]
    return normalize(weighted, copy=False)
