"""Ranked lists from both sides of a model: codes found by beam search, and a vector for the user.

The beam names candidates and so does the dense side; each candidate gets both scores, whoever named
it, and the list is ordered by their weighted sum:

    (1 - w) * log p(codes of the item | history) + w * log p(item | user vector)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genrec.data.ranking import Ranking
from genrec.decoding.beam import CodeScorer, beam_search
from genrec.decoding.ranker import GenerativeRanker, ScorerOf
from genrec.decoding.rules import RowRules
from genrec.decoding.wanted import BatchWanted
from genrec.errors import RequestError
from genrec.model.dense_side import DenseSide
from genrec.model.generative import GenerativeModel


@dataclass(frozen=True)
class Candidates:
    """What both sides say of the candidates of one request, in no order.

    Attributes:
        items: int32[m], catalogue rows, none twice.
        generative: float32[m], log-probability of the codes; minus infinity never occurs.
        dense: float32[m], log-probability by the user vector.
        boosts: float32[m], what the request adds to either.
    """

    items: NDArray[np.int32]
    generative: NDArray[np.float32]
    dense: NDArray[np.float32]
    boosts: NDArray[np.float32]

    def ranking(self, weight: float, k: int) -> Ranking:
        """Return the k best by the sum of both sides.

        Args:
            weight: Share of the dense side.
            k: Items wanted.
        """
        total = (1 - weight) * self.generative + weight * self.dense + self.boosts
        order = np.argsort(-total, kind="stable")[:k]
        return Ranking(self.items[order], total[order].astype(np.float32))


class HybridRanker(GenerativeRanker):
    """Ranks items by the weighted sum of a model's generative and dense side.

    Takes the arguments of ``GenerativeRanker``.

    Args:
        model: A model with a dense side.
        dense_weight: Share of the dense side, from 0 to 1; None takes that which validation chose.
        **settings: See ``GenerativeRanker``.

    Raises:
        RequestError: When the model has no dense side or the weight is out of range.
    """

    def __init__(
        self,
        model: GenerativeModel,
        *,
        dense_weight: float | None = None,
        **settings: Any,  # noqa: ANN401 - those of the base class
    ) -> None:
        super().__init__(model, **settings)
        if model.dense is None:
            raise RequestError("this model has no dense side; train it with train.dense.weight.")
        weight = model.dense.weight if dense_weight is None else dense_weight
        if not 0 <= weight <= 1:
            raise RequestError(f"dense_weight must be between 0 and 1, got {weight}.")
        self.dense_weight = float(weight)
        self._dense: DenseSide = model.dense

    @property
    def score_kind(self) -> str:
        """What scores of lists are: ``sum`` of logarithms of both sides."""
        return "sum"

    def _rank_batch(
        self, scorer: ScorerOf, numbers: Sequence[int], k: int, rules: Sequence[RowRules]
    ) -> list[Ranking]:
        # A bound on first codes has to hold for the list, not for the beam it is chosen from.
        bounded = [
            replace(each, bounds=each.all_bounds(self._trie), most_per_code=None) for each in rules
        ]
        return super()._rank_batch(scorer, numbers, k, bounded)

    def _search(
        self, scorer: ScorerOf, numbers: Sequence[int], k: int, rules: Sequence[RowRules]
    ) -> list[Ranking]:
        found = self._candidates(scorer, numbers, k, rules)
        return [each.ranking(self.dense_weight, k) for each in found]

    def both_sides(
        self, histories: Sequence[NDArray[np.int32]], k: int, rules: Sequence[RowRules]
    ) -> list[Candidates]:
        """Return what either side would put among the best of each history, for choosing a weight.

        Args:
            histories: Catalogue rows per user, oldest first.
            k: Items wanted of a list.
            rules: One a history.
        """

        def scorer(numbers: Sequence[int], width: int) -> CodeScorer:
            return self._scorer([histories[number] for number in numbers], width)

        found: dict[int, Candidates] = {}
        order = np.argsort([len(history) for history in histories], kind="stable")
        for start in range(0, len(order), self.batch_size):
            numbers = order[start : start + self.batch_size].tolist()
            batch = self._candidates(scorer, numbers, k, [rules[number] for number in numbers])
            found.update(zip(numbers, batch, strict=True))
        return [found[number] for number in range(len(histories))]

    @torch.inference_mode()
    def _candidates(
        self, scorer_of: ScorerOf, numbers: Sequence[int], k: int, rules: Sequence[RowRules]
    ) -> list[Candidates]:
        width = min(max(self.beam, k), self._trie.items)
        scorer: Any = scorer_of(numbers, 2 * width)
        dense = self._dense.log_probabilities(scorer.states())
        eligible = np.stack([each.eligible(self._trie.items) for each in rules])
        allowed = dense.masked_fill(~torch.from_numpy(eligible).to(dense.device), -torch.inf)
        best, rows = (part.cpu().numpy() for part in allowed.topk(width, dim=1))
        wanted = [own[score > -np.inf] for own, score in zip(rows, best, strict=True)]
        wishes = replace(self._wishes(rules), wanted=BatchWanted(self._trie, wanted))
        items, scores = beam_search(self._trie, scorer, width, wishes)
        other = dense.gather(1, items.clamp(min=0)).cpu().numpy()
        return [
            _candidates(row, score, own, each)
            for row, score, own, each in zip(
                items.cpu().numpy(), scores.cpu().numpy(), other, rules, strict=True
            )
        ]


def _candidates(
    items: NDArray[np.int64],
    scores: NDArray[np.float32],
    dense: NDArray[np.float32],
    rules: RowRules,
) -> Candidates:
    real = items >= 0
    rows = items[real].astype(np.int32)
    boosts = np.array([rules.boosts.get(int(row), 0.0) for row in rows], dtype=np.float32)
    return Candidates(rows, scores[real] - boosts, dense[real], boosts)


def ranker_of(model: GenerativeModel, **settings: Any) -> GenerativeRanker:  # noqa: ANN401
    """Return what ranks with all sides of a model.

    Args:
        model: The model.
        **settings: Those of ``GenerativeRanker``, and ``dense_weight``.

    Raises:
        RequestError: When a weight is given for a model without a dense side.
    """
    if model.dense is not None:
        return HybridRanker(model, **settings)
    if settings.pop("dense_weight", None) is not None:
        raise RequestError(
            "dense_weight is given, but this model has no dense side; leave it out, or train one "
            "with train.dense.weight."
        )
    return GenerativeRanker(model, **settings)
