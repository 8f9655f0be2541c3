"""A collaborative model as teacher: its whole ranking of next items, not just the one that came.

An event says which item a person chose and nothing about the others; with few events a language
model learns the codes of popular paths and little else. A tuned sequential recommender has an
opinion on every item after every prefix. Folded onto the code tree, that opinion becomes one soft
target per code position:

    q_l(c | prefix) = sum of p(item) over items below prefix + c / sum over items below prefix

which is what a generator that ranks items exactly like the teacher would give (knowledge
distillation, Hinton et al. 2015, arXiv 1503.02531, on the levels of the tree). Items that share
their codes count together: the target is their sum. The teacher has seen the training part only.
"""

import torch
from torch import Tensor

from genrec.cf.sasrec import SasRec
from genrec.semantic_ids.item_index import ItemIndex
from genrec.training.batches import IGNORED

# Scores held at once: positions are taken in parts so that memory does not grow with the catalogue.
SCORES_AT_ONCE = 2**24


class Teacher:
    """Gives soft targets for the codes of every item in a batch.

    Args:
        network: The fitted SASRec; put into evaluation mode and never trained.
        index: The codes.
        device: Where to compute.
    """

    def __init__(self, network: SasRec, index: ItemIndex, device: torch.device) -> None:
        self._network = network.to(device).eval()
        self._codes = torch.from_numpy(index.codes.astype("int64")).to(device)
        self._level_sizes = index.level_sizes

    @property
    def width(self) -> int:
        """Dimensions of the users' vectors."""
        return int(self._network.item_vectors.embedding_dim)

    @property
    def max_history(self) -> int:
        """Newest items of a history that it reads."""
        return self._network.max_history

    @torch.no_grad()
    def targets(self, items: Tensor) -> list[Tensor]:
        """Return soft targets for every real item of a batch.

        Args:
            items: int64[B, width], catalogue rows, right-padded with -100.

        Returns:
            For each level float32[P, codes of the level], P being the real items in row order;
            rows sum to 1. The target of level l is given the true codes before l.
        """
        states, _ = self.states(items)
        with torch.autocast(items.device.type, enabled=False):
            answers = items[items != IGNORED]
            step = max(1, SCORES_AT_ONCE // self._network.items)
            parts = [
                self._fold(states[first : first + step], answers[first : first + step])
                for first in range(0, len(answers), step)
            ]
        return [torch.cat(level) for level in zip(*parts, strict=True)]

    @torch.no_grad()
    def states(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the user's vector before every real item of a batch, and whose it is.

        Args:
            items: int64[B, width], catalogue rows, right-padded with -100.

        Returns:
            float32[P, d] and the row of the batch, int64[P], P being the real items in row order.
        """
        with torch.autocast(items.device.type, enabled=False):
            real = items != IGNORED
            start = torch.full_like(items[:, :1], self._network.items)
            read = torch.cat([start, items.clamp(min=0)[:, :-1]], dim=1)
            states: Tensor = self._network(read, real.sum(1))[real]
        return states, real.nonzero()[:, 0]

    @torch.no_grad()
    def probabilities(self, items: Tensor) -> Tensor:
        """Return the distribution over next items before every real item, float32[P, n].

        Args:
            items: int64[B, width], as for ``states``.
        """
        states, _ = self.states(items)
        with torch.autocast(items.device.type, enabled=False):
            return self._network.scores(states).softmax(1)

    def _fold(self, states: Tensor, answers: Tensor) -> list[Tensor]:
        """Fold item probabilities onto each level, given the true codes before it."""
        probabilities = self._network.scores(states).softmax(1)
        targets: list[Tensor] = []
        for level, size in enumerate(self._level_sizes):
            if level:
                before = self._codes[:, level - 1]
                probabilities = probabilities * (before[None, :] == before[answers, None])
            mass = probabilities.new_zeros(len(probabilities), size)
            mass.index_add_(1, self._codes[:, level], probabilities)
            # A tiny floor keeps positions whose branch the teacher thinks impossible finite.
            targets.append((mass + 1e-12) / (mass + 1e-12).sum(1, keepdim=True))
        return targets
