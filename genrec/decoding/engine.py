"""What runs a language model for the search: the seam between the ranker and its engines."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from genrec.decoding.beam import CodeScorer
from genrec.decoding.cached_reader import CachedReader
from genrec.decoding.language_model_scorer import LanguageModelScorer, Reader
from genrec.decoding.tree_decoder import TreeDecoder, supports
from genrec.decoding.vocabulary_normaliser import VocabularyNormaliser
from genrec.model.code_head import CodeHead, Score
from genrec.model.generative import GenerativeModel
from genrec.model.prompts import pad_left


class Engine(Protocol):
    """Runs a language model for the search.

    Attributes:
        name: ``torch`` or ``vllm``.
        device: Where the search itself is done, and where scores are wanted.
        score: What the probabilities of a level add up to one over; see ``CodeHead``.
    """

    name: str
    device: torch.device
    score: Score

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
        score: See ``CodeHead``.
    """

    name = "torch"

    def __init__(self, model: GenerativeModel, score: Score = "level") -> None:
        language_model = model.language_model
        self.model = model
        self.score: Score = score
        self.device = next(language_model.parameters()).device
        self._head = CodeHead(language_model, model.vocabulary)
        self._normaliser = (
            VocabularyNormaliser(language_model, self._head.softcap) if score == "exact" else None
        )
        self._decoder = TreeDecoder(language_model) if supports(language_model) else None

    def scorer(self, prompts: Sequence[NDArray[np.int64]], width: int) -> LanguageModelScorer:
        """Return what scores codes after prompts; see ``Engine.scorer``."""
        language_model, levels = self.model.language_model, self.model.index.levels
        language_model.eval()
        # A few prompt widths only: every new shape costs set-up time and memory in bfloat16.
        arrays = pad_left(prompts, self.model.pad_token, 4 * levels)
        tokens, real = (torch.from_numpy(array).to(self.device) for array in arrays)
        reader: Reader
        if self._decoder is None:
            reader = CachedReader(language_model, tokens, real)
        else:
            reader = self._decoder.start(tokens, real, width * (levels - 1))
        return LanguageModelScorer(reader, self._head, self._normaliser)
