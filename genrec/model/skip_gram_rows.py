"""Rows of new codes as trained convex combinations of words: CW2V.

Mundra et al., "An Empirical Comparison of Vocabulary Expansion and Initialization Approaches for
Language Models" (2024). The new rows are ``softmax(A) E`` with E the rows of the words, so they lie
inside the hull of the old ones; A, of low rank, is what skip-gram with negative sampling learns
(Mikolov et al., 2013), the words standing still.

What is ours: E holds the words of the titles alone; the corpus is the training histories as streams
of codes, and each item's codes beside the words of its title; input and output matrix are trained
each for itself, with contexts from the same matrix; the rank is 64 in place of 1,024.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genrec.data.histories import Histories
from genrec.semantic_ids.item_index import ItemIndex

RANK = 64
# Those of the paper.
WINDOW, NOISE_POWER = 5, 0.75
NEGATIVES = 5
STEPS, PAIRS, LEARNING_RATE = 150, 1024, 0.05
# Spread of the logits before training: codes must not start equal.
LOGIT_SPREAD = 0.1
# Words that stand in where no title has one.
WORDS_WITHOUT_TITLES = 1000


class SkipGramCorpus:
    """Draws pairs of tokens that stand together, at least one of them a code.

    Tokens are the words of the titles, ``0 .. words - 1`` in the order of their ids, then the
    codes, level by level.

    Args:
        encoded: Words of the title of every catalogue row.
        index: The codes.
        sequences: Training histories; None knows titles only.
        generator: Draws.
    """

    def __init__(
        self,
        encoded: Sequence[Sequence[int]],
        index: ItemIndex,
        sequences: Histories | None,
        generator: np.random.Generator,
    ) -> None:
        lengths = [len(words) for words in encoded]
        flat = np.fromiter((word for words in encoded for word in words), np.int64, sum(lengths))
        self.words, self._word = np.unique(flat, return_inverse=True)
        starts = np.concatenate([[0], np.cumsum(index.level_sizes[:-1])]).astype(np.int64)
        codes = len(self.words) + starts + index.codes
        self._beside = codes[np.repeat(np.arange(len(codes)), lengths)]
        events = np.zeros(0, dtype=np.int32) if sequences is None else sequences.items
        self._stream = codes[events].reshape(-1)
        users = 0 if sequences is None else np.repeat(np.arange(len(sequences)), sequences.lengths)
        self._user = np.repeat(users, index.levels)
        self._generator = generator
        tokens = np.concatenate([self._word, self._beside.reshape(-1), self._stream])
        counts = np.bincount(tokens, minlength=len(self.words) + sum(index.level_sizes))
        self.noise = counts**NOISE_POWER / max(float((counts**NOISE_POWER).sum()), 1.0)

    def draw(self, pairs: int) -> NDArray[np.int64]:
        """Return about so many pairs, int64[p, 2], centre and context."""
        found = [np.zeros((0, 2), dtype=np.int64)]
        if len(self._word):
            place = self._generator.integers(0, len(self._word), pairs // 2)
            level = self._generator.integers(0, self._beside.shape[1], len(place))
            found.append(np.stack([self._beside[place, level], self._word[place]], 1))
        if len(self._stream):
            place = self._generator.integers(0, len(self._stream), pairs // 2)
            step = self._generator.integers(1, WINDOW + 1, len(place))
            other = np.minimum(place + step, len(self._stream) - 1)
            near = (self._user[place] == self._user[other]) & (place != other)
            found.append(np.stack([self._stream[place[near]], self._stream[other[near]]], 1))
        both = np.concatenate(found)
        turned = self._generator.random(len(both)) < 0.5
        both[turned] = both[turned][:, ::-1]
        return both


def skip_gram_rows(
    old: Tensor,
    encoded: Sequence[Sequence[int]],
    index: ItemIndex,
    sequences: Histories | None,
    seed: int,
) -> Tensor:
    """Train the rows of all codes, float32[codes, d], level by level; see the module.

    A code that no item carries stays near the middle of the words.

    Args:
        old: float32[V, d], the rows of the words.
        encoded: Words of the title of every catalogue row, each in ``0 .. V - 1``.
        index: The codes.
        sequences: Training histories; None learns from titles alone.
        seed: Seed of all that is drawn.
    """
    generator = np.random.default_rng(seed)
    corpus = SkipGramCorpus(encoded, index, sequences, generator)
    words = old[torch.from_numpy(corpus.words)]
    hull = words
    if not len(words):
        some = generator.permutation(len(old))[:WORDS_WITHOUT_TITLES]
        hull = old[torch.from_numpy(some)]
    start = torch.Generator().manual_seed(seed)
    left = torch.randn(sum(index.level_sizes), RANK, generator=start) * LOGIT_SPREAD / RANK**0.5
    right = torch.randn(RANK, len(hull), generator=start)
    factors = [left.requires_grad_(), right.requires_grad_()]
    optimizer = torch.optim.Adam(factors, lr=LEARNING_RATE)
    with torch.enable_grad():
        for _ in range(STEPS):
            pairs = corpus.draw(PAIRS)
            if not len(pairs):
                break
            others = generator.choice(len(corpus.noise), (len(pairs), NEGATIVES), p=corpus.noise)
            table = torch.cat([words, (left @ right).softmax(1) @ hull])
            loss = _loss(table, torch.from_numpy(pairs), torch.from_numpy(others))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    rows: Tensor = (left @ right).softmax(1).detach() @ hull
    return rows


def _loss(table: Tensor, pairs: Tensor, others: Tensor) -> Tensor:
    """Return the mean loss of pairs int64[p, 2] beside tokens at random, int64[p, negatives]."""
    centre = table[pairs[:, 0]]
    near = (centre * table[pairs[:, 1]]).sum(1)
    far = (table[others] @ centre.unsqueeze(2)).squeeze(2)
    return nn.functional.softplus(-near).mean() + nn.functional.softplus(far).sum(1).mean()
