"""Ranked lists from both sides of a model: codes found by beam search, and a vector for the user.

The beam names candidates and so does the dense side; each candidate gets both scores, whoever named
it, and the list is ordered by their weighted sum:

    (1 - w) * log p(codes of the item | history) + w * log p(item | vectors)

Where the model reads the user's vector of a collaborative model, that model is there to be asked
too, and has a share s in what vectors say:

    log p(item | vectors) = (1 - s) * log p(item | user vector) + s * log p(item | collaborative)

Of an item without training events it knows nothing; what it says of known items tells what it would
say. The second logarithm is there the line through those of known items over the first ones, fitted
for each request by least squares. To take the first in its place would favour such items: where two
models disagree, the sum is below the better of both, and they would disagree on known items alone.

An item without training events has a vector only by what it resembles, and was no right answer to
anybody. ``new_item_weight`` counts it as so many items here as in the beam: its probability by
vectors is multiplied before they add up to one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.data.ranking import Ranking
from genrec.decoding.beam import beam_search
from genrec.decoding.ranker import GenerativeRanker, Requests
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
        cf: float32[m], log-probability by the collaborative model, estimated where it does not
            know the item; ``dense`` once more where there is no such model.
        boosts: float32[m], what the request adds to all.
    """

    items: NDArray[np.int32]
    generative: NDArray[np.float32]
    dense: NDArray[np.float32]
    cf: NDArray[np.float32]
    boosts: NDArray[np.float32]

    def ranking(self, weight: float, cf_share: float, k: int) -> Ranking:
        """Return the k best by the sum of both sides.

        Args:
            weight: Share of the dense side.
            cf_share: Share of the collaborative model in it.
            k: Items wanted.
        """
        vectors = (1 - cf_share) * self.dense + cf_share * self.cf
        total = (1 - weight) * self.generative + weight * vectors + self.boosts
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

    @property
    def part_shares(self) -> dict[str, float]:
        """What the score of an item is made of, and how much each part counts."""
        weight, cf_share = self.dense_weight, self._dense.cf_share
        shares = {"codes": 1 - weight, "vectors": weight * (1 - cf_share)}
        return shares | ({"collaborative": weight * cf_share} if self._asks_cf else {})

    @property
    def _asks_cf(self) -> bool:
        bridge = self.model.bridge
        return bridge is not None and bridge.user_model is not None

    @torch.inference_mode()
    def score_parts(
        self, histories: Sequence[NDArray[np.int32]], rows: Sequence[int]
    ) -> dict[str, NDArray[np.float32]]:
        """Return the log-probability of given items by each part; see ``GenerativeRanker``."""
        parts: dict[str, list[Tensor]] = {"vectors": [], "collaborative": []}
        requests = self._requests(histories)
        for start in range(0, len(histories), self.batch_size):
            numbers = range(start, min(start + self.batch_size, len(histories)))
            scorer: Any = self._engine.scorer(requests.prompts(numbers), 1)
            dense = self._by_vectors(scorer.states())
            own = torch.tensor([rows[number] for number in numbers], device=dense.device)
            for name, scores in (
                ("vectors", dense),
                ("collaborative", self._cf(requests, numbers, dense)),
            ):
                parts[name].append(scores.gather(1, own.unsqueeze(1))[:, 0])
        found = super().score_parts(histories, rows)
        found |= {name: torch.cat(scores).cpu().numpy() for name, scores in parts.items()}
        return {name: found[name] for name in self.part_shares}

    def _rank_batch(
        self, requests: Requests, numbers: Sequence[int], k: int, rules: Sequence[RowRules]
    ) -> list[Ranking]:
        # A bound on first codes has to hold for the list, not for the beam it is chosen from.
        bounded = [
            replace(each, bounds=each.all_bounds(self._trie), most_per_code=None) for each in rules
        ]
        return super()._rank_batch(requests, numbers, k, bounded)

    def _search(
        self, requests: Requests, numbers: Sequence[int], k: int, rules: Sequence[RowRules]
    ) -> list[Ranking]:
        found = self._candidates(requests, numbers, k, rules)
        return [each.ranking(self.dense_weight, self._dense.cf_share, k) for each in found]

    def both_sides(
        self, histories: Sequence[NDArray[np.int32]], k: int, rules: Sequence[RowRules]
    ) -> list[Candidates]:
        """Return what either side would put among the best of each history, for choosing a weight.

        Args:
            histories: Catalogue rows per user, oldest first.
            k: Items wanted of a list.
            rules: One a history.
        """
        requests = self._requests(histories)
        found: dict[int, Candidates] = {}
        order = np.argsort(requests.lengths, kind="stable")
        for start in range(0, len(order), self.batch_size):
            numbers = order[start : start + self.batch_size].tolist()
            batch = self._candidates(requests, numbers, k, [rules[number] for number in numbers])
            found.update(zip(numbers, batch, strict=True))
        return [found[number] for number in range(len(histories))]

    @torch.inference_mode()
    def _candidates(
        self, requests: Requests, numbers: Sequence[int], k: int, rules: Sequence[RowRules]
    ) -> list[Candidates]:
        width = min(max(self.beam, k), self._trie.items)
        scorer: Any = self._engine.scorer(requests.prompts(numbers), 2 * width)
        dense = self._by_vectors(scorer.states())
        cf = self._cf(requests, numbers, dense)
        vectors = torch.lerp(dense, cf, self._dense.cf_share)
        wishes = replace(self._wishes(rules), wanted=self._wanted(vectors, rules, width))
        items, scores = beam_search(self._trie, scorer, width, wishes)
        places = items.clamp(min=0)
        return [
            _candidates(*each)
            for each in zip(
                items.cpu().numpy(),
                scores.cpu().numpy(),
                dense.gather(1, places).cpu().numpy(),
                cf.gather(1, places).cpu().numpy(),
                rules,
                strict=True,
            )
        ]

    def _by_vectors(self, states: Tensor) -> Tensor:
        """Return the log-probability of every item by the user vector, float32[B, n]."""
        found = self._dense.log_probabilities(states)
        return found if self._shares is None else self._shares.counted(found)

    def _cf(self, requests: Requests, numbers: Sequence[int], dense: Tensor) -> Tensor:
        """Return what the collaborative model says, float32[B, n]; else ``dense`` itself."""
        bridge = self.model.bridge
        if requests.histories is None or bridge is None or not self._asks_cf:
            return dense
        found = bridge.log_probabilities([requests.histories[number] for number in numbers])
        return estimated(found.to(dense.device), dense)

    def _wanted(self, vectors: Tensor, rules: Sequence[RowRules], width: int) -> BatchWanted:
        """Return the best of the dense side that each request may get."""
        eligible = np.stack([each.eligible(self._trie.items) for each in rules])
        allowed = vectors.masked_fill(~torch.from_numpy(eligible).to(vectors.device), -torch.inf)
        best, rows = (part.cpu().numpy() for part in allowed.topk(width, dim=1))
        wanted = [own[score > -np.inf] for own, score in zip(rows, best, strict=True)]
        return BatchWanted(self._trie, wanted)


def estimated(asked: Tensor, dense: Tensor) -> Tensor:
    """Fill in what a collaborative model would say of the items that it does not know.

    Args:
        asked: float32[B, n], log-probabilities; NaN where it knows nothing of an item.
        dense: float32[B, n], those by the user vector.

    Returns:
        float32[B, n]: ``asked``, and in place of NaN the line ``a + b * dense``, a and b by least
        squares over the known items of the row; ``dense`` itself in a row without known items.
    """
    unknown = asked.isnan()
    if not unknown.any():
        return asked
    count = (~unknown).sum(1, keepdim=True)
    means = [
        each.masked_fill(unknown, 0).sum(1, keepdim=True) / count.clamp(min=1)
        for each in (dense, asked)
    ]
    apart = [
        (each - mean).masked_fill(unknown, 0)
        for each, mean in zip((dense, asked), means, strict=True)
    ]
    spread = apart[0].square().sum(1, keepdim=True)
    slope = (apart[0] * apart[1]).sum(1, keepdim=True) / spread.clamp(min=1e-12)
    line = means[1] + slope * (dense - means[0])
    return torch.where(unknown, torch.where(count > 0, line, dense), asked)


def _candidates(
    items: NDArray[np.int64],
    scores: NDArray[np.float32],
    dense: NDArray[np.float32],
    cf: NDArray[np.float32],
    rules: RowRules,
) -> Candidates:
    real = items >= 0
    rows = items[real].astype(np.int32)
    boosts = np.array([rules.boosts.get(int(row), 0.0) for row in rows], dtype=np.float32)
    return Candidates(rows, scores[real] - boosts, dense[real], cf[real], boosts)


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
