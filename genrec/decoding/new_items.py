"""What a model says of items it never saw: their even share of what is nearest to them.

A language model gives next to nothing to a code that never followed a prefix in training, so an
item that was added later is never recommended, however well its first codes fit. Its score is
therefore not read from the model below the longest prefix that the model knows. There it gets the
share that one item has of the items behind that prefix: with n items behind it, ``log(1 / n)`` is
added to the score of the prefix. The scores of all other items stay what they were.

This is backing off to a shorter context, as in language models of counted words (Katz 1987), with
the distribution over what is below left even.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from genrec.decoding.trie import PrefixTrie
from genrec.errors import RequestError


@dataclass(frozen=True)
class NewItemShares:
    """The log-probability of each step to a node that leads to new items only.

    Attributes:
        new: For each code level bool[N], true for such nodes.
        log_share: For each code level float32[N], the log-probability of the step from the node
            above; of use where ``new`` is true.
        log_count: float32[n], for each item the logarithm of the items that it counts as.
    """

    new: tuple[Tensor, ...]
    log_share: tuple[Tensor, ...]
    log_count: Tensor

    @classmethod
    def of(cls, trie: PrefixTrie, item_counts: Tensor, weight: float) -> "NewItemShares | None":
        """Return the shares in a catalogue; None when there is nothing to share.

        Args:
            trie: The catalogue.
            item_counts: int64[n], training events of each item; an item without any is new.
            weight: How many shares a new item gets; above 1 it is shown more often. 0 leaves new
                items to the model.

        Raises:
            RequestError: When the weight is negative or no number.
        """
        if not 0 <= weight < float("inf"):
            raise RequestError(f"new_item_weight must be 0 or more, got {weight}.")
        known_item = item_counts > 0
        if weight == 0 or known_item.all() or not known_item.any():
            return None
        device = trie.item_of_leaf.device
        known_before = _running_sum(known_item.to(device)[trie.item_of_leaf])
        new, log_share = [], []
        shares_above = torch.tensor([1.0], dtype=torch.float64, device=device)
        for number, (level, start) in enumerate(zip(trie.levels, trie.leaf_start, strict=False)):
            known = known_before[start].diff()
            shares = known + weight * (start.diff() - known).double()
            if number == 0:
                shares_above = shares.sum().unsqueeze(0)
            above = shares_above.repeat_interleave(level.child_start.diff())
            new.append(known == 0)
            log_share.append(torch.log(shares / above).float())
            shares_above = shares
        counts = torch.where(known_item.to(device), 1.0, float(weight))
        return cls(tuple(new), tuple(log_share), counts.log())

    def applied(self, level: int, nodes: Tensor, log_probabilities: Tensor) -> Tensor:
        """Return log-probabilities with the shares in place of the model's word on new nodes.

        Args:
            level: Level of the nodes.
            nodes: int64[...].
            log_probabilities: float[...], of the step to each node.
        """
        return torch.where(self.new[level][nodes], self.log_share[level][nodes], log_probabilities)

    def counted(self, log_probabilities: Tensor) -> Tensor:
        """Return log-probabilities of items with new ones counted as several; rows add up to one.

        Args:
            log_probabilities: float32[B, n], by a model that scores all items at once.
        """
        return (log_probabilities + self.log_count).log_softmax(dim=1)


def _running_sum(flags: Tensor) -> Tensor:
    """Return how many of the flags bool[n] before each place are true, int64[n + 1]."""
    return torch.nn.functional.pad(flags.long().cumsum(0), (1, 0))
