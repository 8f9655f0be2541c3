"""How good a baseline is while it trains: what the best epoch is chosen by."""

import numpy as np

from genrec.data.histories import Histories
from genrec.data.ranking import RankingModel

CUTOFF = 10


def validate(model: RankingModel, examples: Histories) -> tuple[float, float]:
    """Return recall@10 and NDCG@10 over the whole catalogue, items of the history left out.

    Args:
        model: The model, trained or not.
        examples: Histories with targets.
    """
    histories = [examples[i] for i in range(len(examples))]
    rankings = model.rank(histories, CUTOFF, exclude=histories)
    found = np.asarray(
        [
            np.flatnonzero(ranking.items == target)[0] if target in ranking.items else np.inf
            for ranking, target in zip(rankings, examples.target, strict=True)
        ]
    )
    return float(np.isfinite(found).mean()), float((1 / np.log2(found + 2)).mean())
