"""Code log-probabilities from an engine that scores given tokens after given sequences."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.decoding.trie import PrefixTrie
from genrec.decoding.trie_scores import child_with_code
from genrec.semantic_ids.vocabulary import SidVocabulary

Tokens = list[int]
# Sequences, and for each the tokens to score after it; the scores come in their order.
Ask = Callable[[Sequence[Tokens], Sequence[Tokens]], Sequence[Sequence[float]]]


class VllmScorer:
    """Scores codes for a batch of prompts; implements ``CodeScorer``.

    Only codes that lead to an item are asked for, all others have no chance. The beams of all
    requests go into one question a level, each as its prompt and the codes that follow; the engine
    keeps what it read of a prompt.

    Args:
        ask: The engine.
        trie: The catalogue.
        vocabulary: Which token is which code.
        prompts: Token ids, one array a request.
    """

    def __init__(
        self,
        ask: Ask,
        trie: PrefixTrie,
        vocabulary: SidVocabulary,
        prompts: Sequence[NDArray[np.int64]],
    ) -> None:
        self._ask = ask
        self._trie = trie
        self._vocabulary = vocabulary
        self._prompts: list[Tokens] = [prompt.tolist() for prompt in prompts]
        # The prefixes of the last question, [B, W]: their node, whether they are in the trie at
        # all, and their tokens [B, W, level].
        self._nodes = torch.zeros(len(prompts), 1, dtype=torch.int64)
        self._real = torch.ones(len(prompts), 1, dtype=torch.bool)
        self._tokens = torch.zeros(len(prompts), 1, 0, dtype=torch.int64)

    def first(self) -> Tensor:
        """Return log-probabilities of the first code, float32[B, codes]."""
        return self._scores(0)[:, 0]

    def next(self, level: int, codes: Tensor, parents: Tensor) -> Tensor:
        """Extend the kept prefixes by their last code; return float32[B, W, codes of the level]."""
        above = self._nodes.gather(1, parents)
        # A place that the search left over repeats another, or holds no prefix at all.
        self._nodes, real = child_with_code(self._trie, level - 1, above, codes)
        self._real = real & self._real.gather(1, parents)
        before = parents.unsqueeze(-1).expand(-1, -1, self._tokens.shape[2])
        token = codes + self._vocabulary.level_range(level - 1).start
        self._tokens = torch.cat([self._tokens.gather(1, before), token.unsqueeze(-1)], dim=2)
        return self._scores(level)

    def _scores(self, level: int) -> Tensor:
        """Return the scores of the codes after each prefix, minus infinity for no prefix."""
        table, tokens = self._trie.levels[level], self._vocabulary.level_range(level)
        code = table.code.numpy()
        starts = table.child_start[self._nodes].tolist()
        ends = table.child_start[self._nodes + 1].tolist()
        paths = self._tokens.tolist()
        rows: dict[tuple[int, int], int] = {}
        sequences: list[Tokens] = []
        children: list[NDArray[np.int64]] = []
        row_of = torch.zeros(self._nodes.shape, dtype=torch.int64)
        for request, place in torch.nonzero(self._real).tolist():
            # Beams of one request with the same children are the same prefix.
            start, end = starts[request][place], ends[request][place]
            row = rows.setdefault((request, start), len(rows))
            row_of[request, place] = row
            if row == len(sequences):
                sequences.append(self._prompts[request] + paths[request][place])
                children.append(code[start:end].astype(np.int64))
        if not rows:
            return torch.full((*self._nodes.shape, len(tokens)), -torch.inf)
        answers = self._ask(sequences, [(codes + tokens.start).tolist() for codes in children])
        scores = np.full((len(rows) + 1, len(tokens)), -np.inf, dtype=np.float32)
        of_row = np.repeat(np.arange(len(rows)), [len(codes) for codes in children])
        scores[of_row, np.concatenate(children)] = np.concatenate([np.array(a) for a in answers])
        return torch.from_numpy(scores)[row_of.where(self._real, len(rows))]
