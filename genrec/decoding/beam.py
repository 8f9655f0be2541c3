"""Beam search over the trie: only real, allowed items, best first.

With a beam at least as wide as k the search returns k items whenever k are eligible: each kept
prefix leads to at least one eligible item, so the number of candidates never falls below the
number of kept prefixes. With a beam as wide as the catalogue it is exact.

A bound on the items of one first code, so that a list covers several interests (a quota over
clusters as in kNN-Embed, El-Kishky et al. 2022), is kept at every level. As each kept prefix leads
to an eligible item, no item that the bound leaves room for is lost by it.

Items that share their codes come with one prefix and one score. They follow each other from the
most to the least popular; those that are excluded are skipped, the others move up.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from genrec.decoding.boosts import BatchBoosts
from genrec.decoding.new_items import NewItemShares
from genrec.decoding.rules import BatchRules
from genrec.decoding.selection import best_of
from genrec.decoding.trie import PrefixTrie
from genrec.decoding.wanted import BatchWanted


class CodeScorer(Protocol):
    """Gives log-probabilities of the next code; implemented by language models and test tables."""

    def first(self) -> Tensor:
        """Return log-probabilities of the first code, float[B, codes of level 0]."""
        ...

    def next(self, level: int, codes: Tensor, parents: Tensor) -> Tensor:
        """Return log-probabilities of the code at ``level`` for each kept prefix.

        Args:
            level: Level to score, from 1.
            codes: int64[B, W], last code of each kept prefix.
            parents: int64[B, W], position of the prefix it extends among those of the last call.

        Returns:
            float[B, W, codes of the level].
        """
        ...


@dataclass(frozen=True)
class Wishes:
    """What requests want besides the model's favourites.

    Attributes:
        rules: What each request may get.
        shares: What items get that the model never saw.
        boosts: What is added to the scores of some items.
        most_per_code: int64[B], items with the same first code that a request gets at most.
        wanted: Items that are scored whatever the beams are; bounds on first codes do not go with
            them.
    """

    rules: BatchRules | None = None
    shares: NewItemShares | None = None
    boosts: BatchBoosts | None = None
    most_per_code: Tensor | None = None
    wanted: BatchWanted | None = None


def beam_search(
    trie: PrefixTrie, scorer: CodeScorer, width: int, wishes: Wishes | None = None
) -> tuple[Tensor, Tensor]:
    """Find the best items of every request in a batch.

    The score of an item is the sum of the log-probabilities of its codes, and its boost; lengths
    are equal, so nothing is normalised. Items with the same codes have the same score. Where
    shares are given, they stand in for the log-probabilities of codes that lead to new items only.

    Args:
        trie: The catalogue.
        scorer: The model, already given the histories.
        width: Prefixes kept after each level.
        wishes: Rules and preferences of the requests.

    Returns:
        Catalogue rows int64[B, W'] (-1 past the last eligible item) and scores float[B, W'],
        best first, with ``W' <= width``, or wider by the wanted items.
    """
    log_probabilities = scorer.first().float().unsqueeze(1)
    beams = _Beams.start(trie, log_probabilities, width, wishes or Wishes())
    beams.expand(0, log_probabilities)
    for level in range(1, len(trie.levels)):
        codes = trie.levels[level - 1].code[beams.nodes].long()
        beams.expand(level, scorer.next(level, codes, beams.parents).float())
    if trie.sharing is not None:
        beams.open()
    items = torch.where(beams.ranked > -torch.inf, trie.item_of_leaf[beams.nodes].long(), -1)
    return items, beams.ranked


@dataclass
class _Beams:
    """The kept prefixes of a batch, best first; all tensors are [B, W].

    Attributes:
        nodes: Node of the trie.
        parents: Place of the prefix each extends among those of the level before.
        scores: The model's word.
        ranked: What they are ranked by: the score and what can still be gained.
        first: Node of the first code.
    """

    trie: PrefixTrie
    width: int
    wishes: Wishes
    nodes: Tensor
    parents: Tensor
    scores: Tensor
    ranked: Tensor
    first: Tensor

    @classmethod
    def start(cls, trie: PrefixTrie, like: Tensor, width: int, wishes: Wishes) -> "_Beams":
        """Return the root of every request."""
        none = torch.zeros(len(like), 1, dtype=torch.int64, device=like.device)
        zero = torch.zeros(len(like), 1, device=like.device)
        return cls(trie, width, wishes, none, none, zero, zero, none)

    def expand(self, level: int, log_probabilities: Tensor) -> None:
        """Extend every prefix by one code and keep the best."""
        nodes, place, real = self._below(level)
        code = self.trie.levels[level].code[nodes].long()
        size = log_probabilities.shape[2]
        step = log_probabilities.flatten(1).gather(1, place * size + code)
        if self.wishes.shares is not None:
            step = self.wishes.shares.applied(level, nodes, step)
        self._keep(level, nodes, place, real, self.scores.gather(1, place) + step)

    def open(self) -> None:
        """Put the items of every kept tuple in its place, the popular ones first."""
        level, rules = len(self.trie.levels), self.wishes.rules
        # Of the first items of a tuple no more can be passed over than a request excludes, unless
        # something else than their popularity orders them.
        passed_over = 0 if rules is None else rules.most_passed_over
        orders = self.wishes.boosts, self.wishes.wanted
        every = passed_over is None or any(each is not None for each in orders)
        most = None if every else self.width + int(passed_over or 0)
        nodes, place, real = self._below(level, most)
        self._keep(level, nodes, place, real, self.scores.gather(1, place))

    def _below(self, level: int, most: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        if level == 0:
            return self.trie.first(len(self.nodes))
        return self.trie.below(level, self.nodes, self.scores > -torch.inf, most)

    def _keep(self, level: int, nodes: Tensor, place: Tensor, real: Tensor, scores: Tensor) -> None:
        """Keep the best of the candidates [B, C], whose parents are at a place among the kept."""
        wishes = self.wishes
        if wishes.rules is not None:
            real = real & wishes.rules.allows(level, nodes)
        ranked = scores if wishes.boosts is None else scores + wishes.boosts.gain(level, nodes)
        ranked = ranked.masked_fill(~real, -torch.inf)
        first = nodes if level == 0 else self.first.gather(1, place)
        groups = None if wishes.most_per_code is None else first
        stable = level == len(self.trie.levels)
        if wishes.wanted is None:
            self.ranked, best = best_of(ranked, self.width, groups, wishes.most_per_code, stable)
        else:
            self.ranked, best = wishes.wanted.best_of(level, nodes, ranked, self.width, stable)
        if best.device.type == "cpu":
            # Where rules leave few prefixes, the model need not read places that nobody takes.
            taken = max(1, int((self.ranked > -torch.inf).sum(dim=1).max()))
            self.ranked, best = self.ranked[:, :taken], best[:, :taken]
        # A place that is left over has no score, and repeats the best one: an engine that knows
        # equal prefixes reads nothing for it.
        left_over = self.ranked == -torch.inf
        best = torch.where(left_over, best[:, :1], best)
        self.parents = place.gather(1, best)
        self.nodes = nodes.gather(1, best)
        self.scores = scores.gather(1, best).masked_fill(left_over, -torch.inf)
        self.first = first.gather(1, best)
