"""A scorer without a model, and the ranking that every search has to agree with."""

import numpy as np
import torch


class TableScorer:
    """A scorer whose log-probabilities are a random function of request and prefix."""

    def __init__(self, level_sizes, batch, seed):
        self.level_sizes, self.batch, self.seed = level_sizes, batch, seed
        self.prefixes = [[() for _ in range(1)] for _ in range(batch)]

    def row(self, request, prefix):
        generator = np.random.default_rng([self.seed, request, *prefix, len(prefix)])
        logits = torch.from_numpy(generator.normal(size=self.level_sizes[len(prefix)]))
        return torch.log_softmax(logits, dim=0).float()

    def first(self):
        return torch.stack([self.row(request, ()) for request in range(self.batch)])

    def next(self, level, codes, parents):
        self.prefixes = [
            [
                (*self.prefixes[b][p], c)
                for p, c in zip(parents[b].tolist(), codes[b].tolist(), strict=True)
            ]
            for b in range(self.batch)
        ]
        return torch.stack(
            [
                torch.stack([self.row(b, prefix) for prefix in self.prefixes[b]])
                for b in range(self.batch)
            ]
        )


def brute_force(index, scorer, request, excluded, counts=None):
    """Score every item alone; rows and (score, row) pairs, best first.

    Items of one score are those of one tuple: the one with more counts first, then by row.
    """
    counts = np.zeros(len(index), dtype=np.int64) if counts is None else counts
    scored = []
    for row in range(len(index)):
        if row in excluded:
            continue
        codes = index.codes_of(row)
        total = sum(
            float(scorer.row(request, codes[:depth])[codes[depth]]) for depth in range(len(codes))
        )
        scored.append((-total, codes, -int(counts[row]), row))
    ranked = sorted(scored)
    return [row for *_, row in ranked], [(-total, row) for total, _, _, row in ranked]
