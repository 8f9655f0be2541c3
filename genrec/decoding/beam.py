"""Beam search over the trie: only real, allowed items, best first.

With a beam at least as wide as k the search returns k items whenever k are eligible: each kept
prefix leads to at least one eligible item, so the number of candidates never falls below the
number of kept prefixes. With a beam as wide as the catalogue it is exact.

Items that share their codes come with one prefix and one score. They follow each other from the
most to the least popular; those that are excluded are skipped, the others move up.
"""

from typing import Protocol

import torch
from torch import Tensor

from genrec.decoding.new_items import NewItemShares
from genrec.decoding.rules import Exclusions
from genrec.decoding.trie import PrefixTrie


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


def beam_search(
    trie: PrefixTrie,
    scorer: CodeScorer,
    width: int,
    exclusions: Exclusions | None = None,
    shares: NewItemShares | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the best items of every request in a batch.

    The score of an item is the sum of the log-probabilities of its codes; lengths are equal, so
    nothing is normalised. Items with the same codes have the same score. Where shares are given,
    they stand in for the log-probabilities of codes that lead to new items only.

    Args:
        trie: The catalogue.
        scorer: The model, already given the histories.
        width: Prefixes kept after each level.
        exclusions: Items each request must not get.
        shares: What items get that the model never saw.

    Returns:
        Catalogue rows int64[B, W'] (-1 past the last eligible item) and scores float[B, W'],
        best first, with ``W' <= width``.
    """
    log_probabilities = scorer.first().float().unsqueeze(1)
    batch, device = len(log_probabilities), log_probabilities.device
    nodes = torch.zeros(batch, 1, dtype=torch.int64, device=device)
    scores = torch.zeros(batch, 1, device=device)
    rules = (width, exclusions, shares)
    nodes, scores, parents = _expand(trie, 0, nodes, scores, log_probabilities, *rules)
    for level in range(1, len(trie.levels)):
        codes = trie.levels[level - 1].code[nodes]
        log_probabilities = scorer.next(level, codes, parents).float()
        nodes, scores, parents = _expand(trie, level, nodes, scores, log_probabilities, *rules)
    if trie.sharing is not None:
        nodes, scores = _open(trie, nodes, scores, width, exclusions)
    items = torch.where(scores > -torch.inf, trie.item_of_leaf[nodes], -1)
    return items, scores


def _expand(
    trie: PrefixTrie,
    level: int,
    nodes: Tensor,
    scores: Tensor,
    log_probabilities: Tensor,
    width: int,
    exclusions: Exclusions | None,
    shares: NewItemShares | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Extend every kept prefix by one code and keep the best; nodes, scores, parents [B, W]."""
    children, real = trie.children(level, nodes)
    if exclusions is not None:
        real = real & exclusions.allows(level, children)
    code = trie.levels[level].code[children]
    step = torch.gather(log_probabilities, 2, code)
    if shares is not None:
        step = shares.applied(level, children, step)
    total = (scores.unsqueeze(-1) + step).masked_fill(~real, -torch.inf).flatten(1)
    best, place = total.topk(min(width, total.shape[1]), dim=1)
    kept = torch.gather(children.flatten(1), 1, place)
    return kept, best, place // children.shape[2]


def _open(
    trie: PrefixTrie, nodes: Tensor, scores: Tensor, width: int, exclusions: Exclusions | None
) -> tuple[Tensor, Tensor]:
    """Put the items of every kept tuple in its place, best first; leaves and scores [B, W]."""
    level = len(trie.levels)
    # Of the first items of a tuple no more can be passed over than a request excludes.
    most = width + (0 if exclusions is None else exclusions.most)
    leaves, real = trie.children(level, nodes, most)
    if exclusions is not None:
        real = real & exclusions.allows(level, leaves)
    total = scores.unsqueeze(-1).masked_fill(~real, -torch.inf).flatten(1)
    # A stable sort, unlike topk, leaves items of one score in the order of their popularity.
    best, place = total.sort(dim=1, descending=True, stable=True)
    return torch.gather(leaves.flatten(1), 1, place[:, :width]), best[:, :width]
