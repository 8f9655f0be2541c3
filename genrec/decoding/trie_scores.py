"""Scores of the codes that may come next, written over the logits of a whole vocabulary.

For engines that hand out a row of logits for each sequence and know nothing of items. Where a
sequence stands in the trie is read from its last tokens, so nothing is remembered between calls
and sequences may come in any order.
"""

import torch
from torch import Tensor

from genrec.decoding.trie import PrefixTrie
from genrec.model.code_head import Score
from genrec.semantic_ids.vocabulary import SidVocabulary


def child_with_code(
    trie: PrefixTrie, level: int, parents: Tensor, codes: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the node below each parent that has a code.

    Args:
        trie: The catalogue.
        level: Level of the children.
        parents: int64[...], nodes one level up (0 for the root).
        codes: int64[...], a code each.

    Returns:
        Nodes int64[...], 0 where there is no such child, and bool[...], true where there is.
    """
    nodes, real = trie.children(level, parents)
    same = real & (trie.levels[level].code[nodes].long() == codes.unsqueeze(-1))
    found, place = same.max(dim=-1)
    return nodes.gather(-1, place.unsqueeze(-1)).squeeze(-1).where(found, 0), found


class TrieScores:
    """Turns logits into log-probabilities of the codes that lead to an item.

    Probabilities are taken over the whole vocabulary (``exact``) or all codes of the level
    (``level``) first; then all that leads to no item is struck out. The other way round, a prefix
    with one way on would get it for nothing.

    Args:
        trie: The catalogue, on the device of the logits.
        vocabulary: Which token is which code.
        score: What the probabilities add up to one over; see ``CodeHead``.
    """

    def __init__(self, trie: PrefixTrie, vocabulary: SidVocabulary, score: Score) -> None:
        self._trie = trie
        self._score = score
        self._levels = [vocabulary.level_range(level) for level in range(len(trie.levels))]
        starts = [tokens.start for tokens in self._levels] + [self._levels[-1].stop]
        self._starts = torch.tensor(starts, device=trie.item_of_leaf.device)

    @property
    def tail(self) -> int:
        """Last tokens of a sequence that say where it stands in the trie."""
        return len(self._levels) - 1

    def locate(self, tails: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tell which code comes next, and behind which prefix.

        A sequence that does not end within an item stands before the first code of a new one.

        Args:
            tails: int64[R, ``tail``], last tokens of each sequence; -1 before its beginning.

        Returns:
            Level int64[R] of the next code, node int64[R] of the prefix before it (0 is the root
            before level 0), and bool[R], false where those tokens are no prefix of an item.
        """
        of_level = torch.searchsorted(self._starts, tails, right=True) - 1
        code = tails - self._starts[of_level.clamp(min=0)]
        inside = (of_level >= 0) & (of_level < self.tail)
        level = torch.zeros(len(tails), dtype=torch.int64, device=tails.device)
        if self.tail:
            level = torch.where(inside[:, -1], of_level[:, -1] + 1, level)
        node = torch.zeros_like(level)
        valid = torch.ones_like(level, dtype=torch.bool)
        for step in range(self.tail):
            place = (self.tail - level + step).clamp(max=self.tail - 1).unsqueeze(1)
            below, found = child_with_code(
                self._trie, step, node.where(valid & (level > step), 0), code.gather(1, place)[:, 0]
            )
            found &= of_level.gather(1, place)[:, 0] == step
            valid &= found | (level <= step)
            node = torch.where(valid & (level > step), below, node)
        return level, node, valid

    def apply(self, logits: Tensor, tails: Tensor) -> Tensor:
        """Write the scores of the next codes over logits, and minus infinity over all else.

        Args:
            logits: float32[R, V]; changed in place.
            tails: int64[R, ``tail``]; see ``locate``.

        Returns:
            The same tensor.
        """
        level, node, valid = self.locate(tails)
        parts = []
        for number, tokens in enumerate(self._levels):
            rows = torch.nonzero(valid & (level == number)).flatten()
            if not len(rows):
                continue
            nodes, real = self._trie.children(number, node[rows])
            # Places past the last child repeat the first one, which changes nothing.
            nodes = torch.where(real, nodes, nodes[:, :1])
            children = self._trie.levels[number].code[nodes].long() + tokens.start
            over = logits if self._score == "exact" else logits[:, tokens.start : tokens.stop]
            over = over if len(rows) == len(logits) else over[rows]
            scores = logits[rows.unsqueeze(1), children] - over.logsumexp(1, keepdim=True)
            parts.append((rows.unsqueeze(1), children, scores))
        logits.fill_(-torch.inf)
        for rows, children, scores in parts:
            logits[rows, children] = scores
        return logits
