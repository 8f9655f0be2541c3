"""What runs a language model for the search: the seam between the ranker and its engines."""

import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from genrec.decoding.beam import CodeScorer
from genrec.decoding.cached_reader import CachedReader, check_readable
from genrec.decoding.encoder_decoder import check_supported, encoder_decoder_reader
from genrec.decoding.language_model_scorer import LanguageModelScorer, Reader
from genrec.decoding.prefix_cache import PrefixCache, PrefixCacheStats
from genrec.decoding.reusing_reader import ReusingReader
from genrec.decoding.tree_decoder import TreeDecoder, supports
from genrec.decoding.vocabulary_normaliser import VocabularyNormaliser
from genrec.errors import RequestError
from genrec.model.code_head import CodeHead, Score, trained_score
from genrec.model.generative import GenerativeModel
from genrec.model.prompts import pad_left, pad_right

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """Runs a language model for the search.

    Attributes:
        name: ``torch`` or ``vllm``.
        device: Where the search itself is done, and where scores are wanted.
        score: What the probabilities of a level add up to one over; see ``CodeHead``.
        prefix_cache_stats: What was reused of earlier histories; None where nothing is told.
    """

    name: str
    device: torch.device
    score: Score

    @property
    def prefix_cache_stats(self) -> PrefixCacheStats | None: ...  # noqa: D102 - an attribute

    def scorer(self, prompts: Sequence[NDArray[np.int64]], width: int) -> CodeScorer:
        """Return what scores codes after a batch of prompts.

        Args:
            prompts: Token ids, one array a request.
            width: Most beams of a request at a level.
        """
        ...


class TorchEngine:
    """Runs the model in this process, reading each prompt once; implements ``Engine``.

    Args:
        model: The generative model; set to evaluation mode whenever it is used.
        score: See ``CodeHead``; None takes what the model was trained for, as its folder says.
        prefix_cache_bytes: Memory for what was read of earlier histories, so that one that begins
            in the same way is read from there on; 0 keeps nothing. See ``PrefixCache``.

    Raises:
        RequestError: When the cache has no room for two items.
        ArtifactError: When the search does not know this kind of language model.
    """

    name = "torch"

    def __init__(
        self, model: GenerativeModel, score: Score | None = None, *, prefix_cache_bytes: int = 0
    ) -> None:
        language_model = model.language_model
        if model.is_encoder_decoder:
            check_supported(language_model)
        self.model = model
        self.score: Score = score or trained_score(model.facts)
        self.device = next(language_model.parameters()).device
        self._head = CodeHead(language_model, model.vocabulary)
        self._normaliser = (
            VocabularyNormaliser(language_model, self._head.softcap)
            if self.score == "exact"
            else None
        )
        self._decoder = TreeDecoder(language_model) if supports(language_model) else None
        if self._decoder is None and not model.is_encoder_decoder:
            check_readable(language_model, model.prompts.longest(model.index.levels))
        self._prefixes = self._prefix_cache(prefix_cache_bytes)

    @property
    def prefix_cache_stats(self) -> PrefixCacheStats | None:
        """What was reused of earlier histories; None where nothing is kept."""
        return None if self._prefixes is None else self._prefixes.stats

    def _prefix_cache(self, limit: int) -> PrefixCache | None:
        if limit == 0:
            return None
        if limit < 0:
            raise RequestError(f"prefix_cache_bytes must be 0 or more, got {limit}.")
        if self._decoder is None or not self._decoder.reusable:
            logger.info("this language model reads every history whole: prefix_cache_bytes is idle")
            return None
        block = self.model.prompts.block(self.model.index.levels)
        return PrefixCache(self._decoder, block, limit)

    def scorer(self, prompts: Sequence[NDArray[np.int64]], width: int) -> LanguageModelScorer:
        """Return what scores codes after prompts; see ``Engine.scorer``."""
        language_model, levels = self.model.language_model, self.model.index.levels
        language_model.eval()
        # A few prompt widths only: every new shape costs set-up time and memory in bfloat16.
        multiple = 4 * levels
        beams = width * (levels - 1)
        reader: Reader
        if self._decoder is not None and self._prefixes is not None:
            reader = ReusingReader(
                self._decoder,
                self._prefixes,
                prompts,
                pad=self.model.pad_token,
                multiple=multiple,
                beams=beams,
            )
            return LanguageModelScorer(reader, self._head, self._normaliser)
        pad = pad_right if self.model.is_encoder_decoder else pad_left
        arrays = pad(prompts, self.model.pad_token, multiple)
        tokens, real = (torch.from_numpy(array).to(self.device) for array in arrays)
        if self.model.is_encoder_decoder:
            reader = encoder_decoder_reader(language_model, tokens, real)
        elif self._decoder is None:
            reader = CachedReader(language_model, tokens, real)
        else:
            reader = self._decoder.start(tokens, real, beams)
        return LanguageModelScorer(reader, self._head, self._normaliser)
