"""Item vectors that know what follows what: transition counts as a soft target of the vectors.

The transition-aware embedding distillation of MQSA-TED (Zhu and others, "Collaboration and
Transition: Distilling Item Transitions into Multi-Query Self-Attention for Sequential
Recommendation", WSDM 2024, arXiv 2311.01056): a recommender that reads sequences never sees all
that follows an item at once, counts over all users do. With e the item vectors and t the
temperature, the loss of item i is the cross-entropy of

    p(j | i) = how often j directly followed i / how often anything did
    q(j | i) = softmax over all j but i of e_i . e_j / t

The summary that this was made from gives neither student nor teacher in symbols, so both are
ours, and so is how items are drawn: as often as something followed them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genrec.cf.sasrec import SasRec
from genrec.cf.transition import Transition
from genrec.errors import ConfigError

# Items that one step distils, and scores held for them at most (64 MB).
ITEMS_PER_STEP = 256
SCORES_AT_ONCE = 2**24


@dataclass(frozen=True)
class TransitionDistillation:
    """The extra loss of a training step.

    Attributes:
        offsets: int64[n + 1]; what followed item i lies at ``offsets[i]:offsets[i + 1]``.
        followers: int64[p], catalogue rows; an item is no follower of itself.
        probabilities: float32[p], their share among the followers of their item.
        frequencies: float32[n], how often something followed each item.
        weight: What the loss is multiplied by.
        temperature: Divides the products of vectors.
    """

    offsets: Tensor
    followers: Tensor
    probabilities: Tensor
    frequencies: Tensor
    weight: float
    temperature: float

    @classmethod
    def of(
        cls,
        transition: Transition,
        *,
        weight: float,
        temperature: float,
        device: torch.device | str = "cpu",
    ) -> "TransitionDistillation":
        """Turn counts of the training part into targets.

        Raises:
            ConfigError: When weight or temperature is not above 0.
        """
        if not (weight > 0 and temperature > 0):
            raise ConfigError(
                f"distillation with weight {weight} and temperature {temperature} means nothing; "
                "both must be above 0."
            )
        n = len(transition.offsets) - 1
        before = np.repeat(np.arange(n), np.diff(transition.offsets))
        other = before != transition.followers
        before, followers = before[other], transition.followers[other].astype(np.int64)
        counts = transition.counts[other].astype(np.float64)
        totals = np.bincount(before, weights=counts, minlength=n)
        offsets = np.append(0, np.cumsum(np.bincount(before, minlength=n)))
        return cls(
            offsets=torch.from_numpy(offsets).to(device),
            followers=torch.from_numpy(followers).to(device),
            probabilities=torch.from_numpy((counts / totals[before]).astype(np.float32)).to(device),
            frequencies=torch.from_numpy(totals.astype(np.float32)),
            weight=weight,
            temperature=temperature,
        )

    def __call__(self, network: SasRec) -> Tensor:
        """Return the weighted loss of items drawn at random; 0 when nothing followed anything."""
        if not len(self.followers):
            return network.item_vectors.weight.sum() * 0
        most = min(ITEMS_PER_STEP, max(1, SCORES_AT_ONCE // network.items))
        drawn = torch.multinomial(self.frequencies, most, replacement=True)
        return self.weight * self.loss(network, drawn.to(self.followers.device))

    def loss(self, network: SasRec, items: Tensor) -> Tensor:
        """Return the mean cross-entropy of these items, each with a follower.

        Args:
            network: Its item vectors are the student.
            items: int64[m], catalogue rows.
        """
        vectors = network.item_vectors.weight[: network.items]
        scores = vectors[items] @ vectors.T / self.temperature
        scores = scores.scatter(1, items[:, None], float("-inf"))
        lengths = self.offsets[items + 1] - self.offsets[items]
        row = torch.repeat_interleave(torch.arange(len(items), device=items.device), lengths)
        ends = lengths.cumsum(0)
        within = torch.arange(len(row), device=items.device) - (ends - lengths)[row]
        pair = self.offsets[items][row] + within
        hits = (self.probabilities[pair] * scores[row, self.followers[pair]]).sum()
        return (scores.logsumexp(1).sum() - hits) / len(items)
