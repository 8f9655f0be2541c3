"""Why an item is where it is, as far as the model can tell: what goes together, not what causes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genrec.decoding.ranker import GenerativeRanker
from genrec.errors import RequestError
from genrec.serving.recommender import Recommender
from genrec.serving.request import check_lists


@dataclass(frozen=True)
class SharedCodes:
    """An item of the history whose first codes are those of the explained item."""

    item_id: str
    title: str
    codes: int


@dataclass(frozen=True)
class Influence:
    """How the score changes with an item of the history.

    Attributes:
        item_id: The item.
        title: What to show a person.
        change: Score with the whole history less the score without this item: above 0, the item
            is associated with a higher score.
    """

    item_id: str
    title: str
    change: float


@dataclass(frozen=True)
class ScorePart:
    """One of the parts that the score is the sum of.

    Attributes:
        name: ``codes``, ``vectors`` or ``collaborative``.
        share: How much it counts.
        log_probability: What it says of the item.
    """

    name: str
    share: float
    log_probability: float


@dataclass(frozen=True)
class Explanation:
    """What can be said of one item for one history.

    Attributes:
        item_id: The explained item.
        title: What to show a person.
        codes: Its codes.
        probabilities: The model's probability of each code after those before it.
        score: What lists are ordered by: the sum of all parts, each times its share.
        parts: Of a model that speaks in codes alone these are the whole score; the log-probability
            of the codes is the sum of the logarithms above.
        shared_codes: Items of the history with the same first codes, most first.
        influences: Every item of the history that was read, the largest change first.
        new: Whether no training event names the item, so that its rank comes from items like it.
    """

    item_id: str
    title: str
    codes: list[int]
    probabilities: list[float]
    score: float
    parts: list[ScorePart]
    shared_codes: list[SharedCodes]
    influences: list[Influence]
    new: bool


def explain(recommender: Recommender, history: Sequence[str], item_id: str) -> Explanation:
    """Tell what speaks for an item after a history.

    The history is read once whole and once without each of its items. The figures say what is
    associated in what the model learned; they do not say that one choice caused another.

    Args:
        recommender: With a generative model.
        history: Item ids, oldest first.
        item_id: The item to explain, recommended or not.

    Raises:
        RequestError: When the catalogue has no such item, or no item of the history, the history
            is no list of texts, or the model is none that speaks in codes.
    """
    check_lists([history])
    ranker, catalog = recommender.ranker, recommender.catalog
    if not isinstance(ranker, GenerativeRanker):
        raise RequestError(f"the model {ranker.name!r} gives no reasons.")
    rows, _ = catalog.rows([item_id])
    known, _ = catalog.rows(history)
    if not rows:
        raise RequestError(f"the catalogue has no item {item_id!r}.")
    if not known:
        raise RequestError("the history holds no known item; popularity is all there is to tell.")
    read = np.asarray(known, dtype=np.int32)[-ranker.model.prompts.max_history :]
    without = [np.delete(read, place) for place in range(len(read))]
    items = rows * (1 + len(read))
    shares, parts = ranker.part_shares, ranker.score_parts([read, *without], items)
    scores = sum(share * parts[name] for name, share in shares.items())
    assert isinstance(scores, np.ndarray)
    steps = ranker.code_scores([read], rows)
    codes = ranker.model.index.codes
    same = np.cumprod(codes[read] == codes[rows[0]], axis=1).sum(axis=1)
    return Explanation(
        item_id=item_id,
        title=catalog.titles[rows[0]],
        codes=codes[rows[0]].tolist(),
        probabilities=np.exp(steps[0]).tolist(),
        score=float(scores[0]),
        parts=[ScorePart(name, share, float(parts[name][0])) for name, share in shares.items()],
        shared_codes=[
            SharedCodes(catalog.item_ids[row], catalog.titles[row], int(same[place]))
            for place in np.argsort(-same, kind="stable")
            if same[place] and (row := int(read[place])) != rows[0]
        ],
        influences=[
            Influence(
                catalog.item_ids[int(read[place])],
                catalog.titles[int(read[place])],
                float(scores[0] - scores[1 + place]),
            )
            for place in np.argsort(-np.abs(scores[0] - scores[1:]), kind="stable")
        ],
        new=not ranker.model.item_counts[rows[0]],
    )
