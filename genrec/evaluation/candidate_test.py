"""The paper's test of A-LLMRec: one true item among random ones. Not comparable with full ranking.

How far a metric over sampled items is from one over all: Krichene and Rendle, "On Sampled Metrics
for Item Recommendation", KDD 2020.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from genrec.data.histories import Histories
from genrec.data.ranking import Ranking, RankingModel

Chooser = Callable[[Sequence[NDArray[np.int32]], Sequence[NDArray[np.int32]]], Sequence[Ranking]]


def draw_candidates(
    examples: Histories, items: int, seed: int, count: int = 20
) -> list[NDArray[np.int32]]:
    """Return for each example its target among random items, in random order.

    Args:
        examples: Histories with targets.
        items: Size of the catalogue.
        seed: Seed of what is drawn.
        count: Candidates, the true one included; fewer where a user chose nearly all items.
    """
    drawn = []
    for place in range(len(examples)):
        generator = np.random.default_rng([seed, place])
        barred = np.append(examples[place], examples.target[place])
        others = np.setdiff1d(np.arange(items), barred)
        some = generator.choice(others, min(count - 1, len(others)), replace=False)
        together = np.append(some, examples.target[place])
        drawn.append(generator.permutation(together).astype(np.int32))
    return drawn


def hit_at_1(
    choose: Chooser, examples: Histories, candidates: Sequence[NDArray[np.int32]]
) -> float:
    """Return the share of examples whose target a model puts first among the candidates."""
    histories = [examples[place] for place in range(len(examples))]
    rankings = choose(histories, candidates)
    first = [int(ranking.items[0]) for ranking in rankings]
    return float((np.asarray(first) == examples.target).mean())


def chooser_of(model: RankingModel, items: int) -> Chooser:
    """Return a chooser for a model that ranks the whole catalogue: all but candidates excluded.

    Args:
        model: For instance SASRec, or the language model's search over codes.
        items: Size of the catalogue.
    """

    def choose(
        histories: Sequence[NDArray[np.int32]], candidates: Sequence[NDArray[np.int32]]
    ) -> Sequence[Ranking]:
        every = np.arange(items, dtype=np.int32)
        others = [np.setdiff1d(every, rows) for rows in candidates]
        return model.rank(histories, 1, exclude=others)

    return choose
