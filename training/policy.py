"""The model's word on groups of items, with gradients."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from genrec.decoding.cached_reader import CachedReader
from genrec.decoding.encoder_decoder import encoder_decoder_reader
from genrec.decoding.language_model_scorer import LanguageModelScorer, Reader
from genrec.decoding.path_scores import path_scores
from genrec.model.code_head import CodeHead, trained_score
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import item_token_table
from genrec.model.output_layer import full_logits
from genrec.model.prompts import pad_left, pad_right

# States whose logits over all words are held at once.
_STATES_AT_ONCE = 512


class Policy:
    """Log-probabilities of the codes of many items a history, as the model was trained for them.

    A history is read once and its items are read as beams that follow it, so a group costs little
    more than one item. Codes count among those of their level, or among all words, as the facts of
    the model say.

    Args:
        model: The model that learns.
        head: Its code head.
    """

    def __init__(self, model: GenerativeModel, head: CodeHead) -> None:
        self._model = model
        self._head = head
        self._item_tokens = item_token_table(model.vocabulary, model.index)
        self._codes = torch.from_numpy(model.index.codes.astype(np.int64))
        exact = trained_score(model.facts) == "exact"
        self._normaliser = self._over_all_words if exact else None

    def log_probabilities(
        self, histories: Sequence[NDArray[np.int32]], items: NDArray[np.int64]
    ) -> Tensor:
        """Return the log-probability of each code of the items, float32[B, G, L].

        Args:
            histories: Catalogue rows, oldest first.
            items: int64[B, G], catalogue rows.
        """
        language_model = self._model.language_model
        device = next(language_model.parameters()).device
        prompts = self._model.prompts.encode(histories, self._item_tokens)
        # A few widths only, as in the search: every new shape costs set-up time.
        multiple = 4 * self._model.index.levels
        encoder = self._model.is_encoder_decoder
        arrays = (pad_right if encoder else pad_left)(prompts, self._model.pad_token, multiple)
        tokens, real = (torch.from_numpy(array).to(device) for array in arrays)
        reader: Reader = (
            encoder_decoder_reader(language_model, tokens, real)
            if encoder
            else CachedReader(language_model, tokens, real)
        )
        scorer = LanguageModelScorer(reader, self._head, self._normaliser)
        return path_scores(scorer, self._codes[torch.from_numpy(items)].to(device))

    def _over_all_words(self, read: Tensor) -> Tensor:
        """Return the logarithm of what all words add up to, float32[..., 1].

        A few states at a time, computed again for the gradients: never are the logits of all words
        held for all states.
        """
        parts = [
            checkpoint(self._total, states, use_reentrant=False)
            for states in torch.split(read.flatten(0, -2), _STATES_AT_ONCE)
        ]
        return torch.cat(parts).view(*read.shape[:-1], 1)

    def _total(self, states: Tensor) -> Tensor:
        logits = full_logits(self._model.language_model, states)
        return torch.logsumexp(logits, dim=-1)
