"""A quantizer that looks its distances up, so that a test can say what they are."""

import numpy as np


class TableQuantizer:
    """Vector ``[t]`` is ``tables[l][t, c_0, ..., c_l]`` away from codes ``c_0, ..., c_l``."""

    def __init__(self, tables):
        self.tables = tables
        self.level_sizes = tables[-1].shape[1:]

    @classmethod
    def random(cls, rng, kinds, level_sizes, values, spare=0):
        """Draw whole numbers below ``values``; the last ``spare`` last codes stand for nothing."""
        shapes = [(kinds, *level_sizes[: level + 1]) for level in range(len(level_sizes))]
        tables = [rng.integers(0, values, size=shape).astype(np.float64) for shape in shapes]
        tables[-1][..., level_sizes[-1] - spare :] = np.inf
        return cls(tables)

    def codes_of(self, x):
        codes = np.zeros((len(x), 0), dtype=np.int32)
        for _ in self.level_sizes:
            nearest = self.distances(x, codes).argmin(axis=1)
            codes = np.column_stack([codes, nearest]).astype(np.int32)
        return codes

    def distances(self, x, prefix):
        kinds = x[:, 0].astype(np.int64)
        return self.tables[prefix.shape[1]][(kinds, *prefix.T)]
