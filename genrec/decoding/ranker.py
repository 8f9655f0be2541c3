"""Ranked lists from a generative model, many histories at a time."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from genrec.data.ranking import Ranking
from genrec.decoding.beam import beam_search
from genrec.decoding.language_model_scorer import LanguageModelScorer
from genrec.decoding.new_items import NewItemShares
from genrec.decoding.rules import Exclusions
from genrec.decoding.trie import PrefixTrie
from genrec.errors import RequestError
from genrec.model.code_head import CodeHead
from genrec.model.generative import GenerativeModel
from genrec.model.prompts import pad_left


class GenerativeRanker:
    """Ranks items by constrained beam search; implements ``RankingModel``.

    Items that share their codes have the same score and are ranked by their training counts.
    Items without a training event, such as those added later, get a share of what the model gives
    to the codes they have in common with others (see ``NewItemShares``).

    Args:
        model: The generative model; set to evaluation mode.
        beam: Prefixes kept at each level; widened to k where k is larger.
        batch_size: Histories decoded at once.
        new_item_weight: Shares an item without training events gets; 0 leaves it to the model.
    """

    name = "genrec"

    def __init__(
        self,
        model: GenerativeModel,
        *,
        beam: int = 50,
        batch_size: int = 64,
        new_item_weight: float = 1.0,
    ) -> None:
        if beam < 1 or batch_size < 1:
            raise RequestError(f"beam and batch_size must be at least 1, got {beam}, {batch_size}.")
        self.model = model
        self.beam = beam
        self.batch_size = batch_size
        self._device = next(model.language_model.parameters()).device
        self._trie = PrefixTrie.from_index(model.index, model.item_counts).to(self._device)
        self._shares = NewItemShares.of(
            self._trie, torch.from_numpy(model.item_counts), new_item_weight
        )
        self._head = CodeHead(model.language_model, model.vocabulary)
        self._item_tokens = model.vocabulary.tokens(model.index.codes)

    def rank(
        self,
        histories: Sequence[NDArray[np.int32]],
        k: int,
        *,
        exclude: Sequence[NDArray[np.int32]] | None = None,
    ) -> list[Ranking]:
        """Rank items for each history; see ``RankingModel.rank``."""
        if k < 1:
            raise RequestError(f"k must be at least 1, got {k}.")
        # Equal lengths side by side waste the least padding; answers go back in the given order.
        order = np.argsort([len(history) for history in histories], kind="stable")
        rankings: list[Ranking | None] = [None] * len(histories)
        self.model.language_model.eval()
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            answers = self._rank_batch(
                [histories[row] for row in rows],
                k,
                None if exclude is None else [exclude[row] for row in rows],
            )
            for row, answer in zip(rows, answers, strict=True):
                rankings[row] = answer
        return [ranking for ranking in rankings if ranking is not None]

    @torch.inference_mode()
    def _rank_batch(
        self,
        histories: Sequence[NDArray[np.int32]],
        k: int,
        exclude: Sequence[NDArray[np.int32]] | None,
    ) -> list[Ranking]:
        model = self.model
        prompts = model.prompts.encode(histories, self._item_tokens)
        # A few prompt widths only: every new shape costs set-up time and memory in bfloat16.
        multiple = 4 * model.index.levels
        tokens, real = pad_left(prompts, model.pad_token, multiple)
        scorer = LanguageModelScorer(
            model.language_model,
            self._head,
            torch.from_numpy(tokens).to(self._device),
            torch.from_numpy(real).to(self._device),
        )
        exclusions = (
            None if exclude is None else Exclusions.from_rows(self._trie, exclude, self._device)
        )
        width = max(self.beam, k)
        items, scores = beam_search(self._trie, scorer, width, exclusions, self._shares)
        rows, values = items[:, :k].cpu().numpy(), scores[:, :k].cpu().numpy()
        return [
            Ranking(row[row >= 0].astype(np.int32), value[row >= 0].astype(np.float32))
            for row, value in zip(rows, values, strict=True)
        ]
