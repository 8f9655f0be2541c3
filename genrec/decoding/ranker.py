"""Ranked lists from a generative model, many histories at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from genrec.data.ranking import Ranking
from genrec.decoding.beam import CodeScorer, Wishes, beam_search
from genrec.decoding.boosts import BatchBoosts
from genrec.decoding.bounded_lists import bounded_lists
from genrec.decoding.engine import Engine, TorchEngine
from genrec.decoding.new_items import NewItemShares
from genrec.decoding.path_scores import path_scores
from genrec.decoding.prefix_cache import PrefixCacheStats
from genrec.decoding.rules import BatchRules, RowRules
from genrec.decoding.trie import PrefixTrie
from genrec.errors import RequestError
from genrec.model.code_head import Score
from genrec.model.generative import GenerativeModel


@dataclass(frozen=True)
class Requests:
    """What is asked of a model, many at a time.

    Attributes:
        lengths: How long each is; those of like length are read together.
        prompts: Gives the token ids of the requests with these numbers.
        histories: Catalogue rows of each, oldest first; None where only prompts are known.
    """

    lengths: Sequence[int]
    prompts: Callable[[Sequence[int]], Sequence[NDArray[np.int64]]]
    histories: Sequence[NDArray[np.int32]] | None = None


class GenerativeRanker:
    """Ranks items by constrained beam search; implements ``RankingModel``.

    Items that share their codes have the same score and are ranked by their training counts.
    Items without a training event, such as those added later, get a share of what the model gives
    to the codes they have in common with others (see ``NewItemShares``).

    Args:
        model: The generative model; its weights are the engine's to use.
        beam: Prefixes kept at each level; widened to k where k is larger.
        batch_size: Histories decoded at once.
        new_item_weight: Shares an item without training events gets; 0 leaves it to the model.
        score: What the probabilities of a level add up to one over, see ``CodeHead``; None takes
            what the model was trained for, as its folder says. An engine has its own.
        trie: The catalogue, see ``model_trie``; None builds it.
        prefix_cache_bytes: See ``TorchEngine``; an engine has its own.
        engine: What runs the model; None runs it in this process.

    Attributes:
        score: That of the answers.
    """

    name = "genrec"

    def __init__(
        self,
        model: GenerativeModel,
        *,
        beam: int = 50,
        batch_size: int = 64,
        new_item_weight: float = 1.0,
        score: Score | None = None,
        trie: PrefixTrie | None = None,
        prefix_cache_bytes: int = 0,
        engine: Engine | None = None,
    ) -> None:
        if beam < 1 or batch_size < 1:
            raise RequestError(f"beam and batch_size must be at least 1, got {beam}, {batch_size}.")
        if engine is not None and (score not in (None, engine.score) or prefix_cache_bytes):
            raise RequestError(
                f"score={score!r} and prefix_cache_bytes={prefix_cache_bytes} are for the engine "
                f"made here; the one that is given has the score {engine.score!r}. Leave them out."
            )
        self.model = model
        self.beam = beam
        self.batch_size = batch_size
        self._engine = engine or TorchEngine(model, score, prefix_cache_bytes=prefix_cache_bytes)
        self.score: Score = self._engine.score
        self._device = self._engine.device
        trie = trie or PrefixTrie.from_index(model.index, model.item_counts)
        self._trie = trie.to(self._device)
        self._shares = NewItemShares.of(
            self._trie, torch.from_numpy(model.item_counts), new_item_weight
        )
        self._item_tokens = model.vocabulary.tokens(model.index.codes)

    def _scorer(self, histories: Sequence[NDArray[np.int32]], width: int) -> CodeScorer:
        """Return what scores codes after histories, for at most so many beams a level."""
        prompts = self.model.prompts.encode(histories, self._item_tokens)
        return self._engine.scorer(prompts, width)

    @torch.inference_mode()
    def code_scores(
        self, histories: Sequence[NDArray[np.int32]], rows: Sequence[int]
    ) -> NDArray[np.float32]:
        """Return the log-probability of every code of given items, float32[histories, levels].

        Args:
            histories: Catalogue rows per user, oldest first.
            rows: Catalogue row of one item a history.
        """
        codes = torch.from_numpy(self.model.index.codes[list(rows)].astype(np.int64)).unsqueeze(1)
        steps = [
            path_scores(
                self._scorer(histories[start : start + self.batch_size], 1),
                codes[start : start + self.batch_size].to(self._device),
            )[:, 0]
            for start in range(0, len(histories), self.batch_size)
        ]
        scores: NDArray[np.float32] = torch.cat(steps).cpu().numpy()
        return scores

    @property
    def part_shares(self) -> dict[str, float]:
        """What the score of an item is made of, and how much each part counts."""
        return {"codes": 1.0}

    def score_parts(
        self, histories: Sequence[NDArray[np.int32]], rows: Sequence[int]
    ) -> dict[str, NDArray[np.float32]]:
        """Return the log-probability of given items by each part, float32[histories] each.

        Args:
            histories: Catalogue rows per user, oldest first.
            rows: Catalogue row of one item a history.
        """
        return {"codes": self.code_scores(histories, rows).sum(axis=1)}

    def rank(
        self,
        histories: Sequence[NDArray[np.int32]],
        k: int,
        *,
        exclude: Sequence[NDArray[np.int32]] | None = None,
        rules: Sequence[RowRules] | None = None,
    ) -> list[Ranking]:
        """Rank items for each history; see ``RankingModel.rank``.

        Args:
            histories: Catalogue rows per user, oldest first; may be empty.
            k: Number of items wanted.
            exclude: Catalogue rows per user that must not be returned.
            rules: One a history, in place of ``exclude``.

        Raises:
            RequestError: When k is below 1, or both ``exclude`` and ``rules`` are given.
        """
        return self._rank(self._requests(histories), k, exclude, rules)

    def rank_prompts(
        self,
        prompts: Sequence[NDArray[np.int64]],
        k: int,
        *,
        exclude: Sequence[NDArray[np.int32]] | None = None,
        rules: Sequence[RowRules] | None = None,
    ) -> list[Ranking]:
        """Rank items that answer any prompts; see ``rank`` for what else is given.

        Args:
            prompts: Token ids, one array a request, such as ``TaskPrompts.prompt`` writes.
            k: Number of items wanted.
            exclude: Catalogue rows per request that must not be returned.
            rules: One a request, in place of ``exclude``.

        Raises:
            RequestError: When k is below 1, or both ``exclude`` and ``rules`` are given.
        """
        requests = Requests(
            [len(prompt) for prompt in prompts],
            lambda numbers: [prompts[number] for number in numbers],
        )
        return self._rank(requests, k, exclude, rules)

    def _requests(self, histories: Sequence[NDArray[np.int32]]) -> Requests:
        def prompts(numbers: Sequence[int]) -> list[NDArray[np.int64]]:
            read = [histories[number] for number in numbers]
            return self.model.prompts.encode(read, self._item_tokens)

        return Requests([len(history) for history in histories], prompts, histories)

    def _rank(
        self,
        requests: Requests,
        k: int,
        exclude: Sequence[NDArray[np.int32]] | None,
        rules: Sequence[RowRules] | None,
    ) -> list[Ranking]:
        """Rank items for each request, batch by batch."""
        if k < 1:
            raise RequestError(f"k must be at least 1, got {k}.")
        if exclude is not None and rules is not None:
            raise RequestError("give exclude or rules, not both; rules have excluded items too.")
        if rules is None:
            none = [np.zeros(0, dtype=np.int32)] * len(requests.lengths)
            rules = [RowRules(excluded=rows) for rows in (none if exclude is None else exclude)]
        # Equal lengths side by side waste the least padding; answers go back in the given order.
        order = np.argsort(requests.lengths, kind="stable")
        rankings: list[Ranking | None] = [None] * len(order)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size].tolist()
            answers = self._rank_batch(requests, rows, k, [rules[row] for row in rows])
            for row, answer in zip(rows, answers, strict=True):
                rankings[row] = answer
        return [ranking for ranking in rankings if ranking is not None]

    def _rank_batch(
        self, requests: Requests, numbers: Sequence[int], k: int, rules: Sequence[RowRules]
    ) -> list[Ranking]:
        def search(asked: Sequence[int], now: Sequence[RowRules]) -> list[Ranking]:
            return self._search(requests, [numbers[place] for place in asked], k, now)

        if not any(each.bounds for each in rules):
            return self._search(requests, numbers, k, rules)
        return bounded_lists(self._trie, rules, k, search)

    @torch.inference_mode()
    def _search(
        self, requests: Requests, numbers: Sequence[int], k: int, rules: Sequence[RowRules]
    ) -> list[Ranking]:
        # No level has more prefixes than there are items.
        width = min(max(self.beam, k), self._trie.items)
        scorer = self._engine.scorer(requests.prompts(numbers), width)
        items, scores = beam_search(self._trie, scorer, width, self._wishes(rules))
        rows, values = items[:, :k].cpu().numpy(), scores[:, :k].cpu().numpy()
        return [
            Ranking(row[row >= 0].astype(np.int32), value[row >= 0].astype(np.float32))
            for row, value in zip(rows, values, strict=True)
        ]

    def _wishes(self, rules: Sequence[RowRules]) -> Wishes:
        """Return what the requests want, leaving out what none of them asks for."""
        unbounded = len(self._trie.item_of_leaf)
        most = [each.most_per_code or unbounded for each in rules]
        return Wishes(
            rules=BatchRules(self._trie, rules),
            shares=self._shares,
            boosts=BatchBoosts(self._trie, [each.boosts for each in rules])
            if any(each.boosts for each in rules)
            else None,
            most_per_code=torch.tensor(most, device=self._device)
            if min(most, default=unbounded) < unbounded
            else None,
        )

    @property
    def score_kind(self) -> str:
        """What scores of lists are: logarithms of probabilities, ``exact`` or ``level``."""
        return self.score

    @property
    def prefix_cache_stats(self) -> PrefixCacheStats | None:
        """What was reused of earlier histories; None where nothing is kept."""
        return self._engine.prefix_cache_stats

    @property
    def trie(self) -> PrefixTrie:
        """The catalogue that is searched."""
        return self._trie
