"""Which of these does this customer choose next? Items that you name, best first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrec.data.ranking import Ranking
from genrec.decoding.candidate_chooser import CandidateChooser
from genrec.decoding.ranker import GenerativeRanker
from genrec.errors import RequestError
from genrec.serving.recommendation import RecommendedItem, popular_instead
from genrec.serving.recommender import Recommender
from genrec.serving.request import check_lists


@dataclass(frozen=True)
class Choice:
    """The candidates of one history, in the order of the model.

    Attributes:
        items: All known candidates, best first, each once; a score is the log-probability of the
            whole title, or the number of training events where popularity answered.
        unknown_items: Ids of the history that the catalogue does not have, each once.
        unknown_candidates: Candidates that it does not have, each once.
        fallback: None when the model answered; else what answered in its place, and why.
        history_read: Items of the history that were read, the newest ones.
    """

    items: list[RecommendedItem]
    unknown_items: list[str]
    unknown_candidates: list[str]
    fallback: str | None
    history_read: int


class ItemChooser:
    """Orders items that you name by how likely the model finds their titles after a history.

    The question is A-LLMRec's (Kim et al., KDD 2024, figure 3); what only shall be recommended
    from a list of items is a rule, ``Rules(allow=[...])``, and works with every model.

    Args:
        recommender: With a model that was trained on the question (``train.bridge.candidates``).

    Raises:
        RequestError: When it was not.

    Example:
        >>> chooser = ItemChooser(Recommender.from_pretrained("runs/store"))  # doctest: +SKIP
        >>> chooser.choose([["ID1", "ID2"]], [["ID7", "ID8", "ID9"]])  # doctest: +SKIP
    """

    def __init__(self, recommender: Recommender) -> None:
        if not isinstance(recommender.ranker, GenerativeRanker):
            raise RequestError(
                f"the model {recommender.name!r} was not trained to choose among titles; use the "
                "rule allow to keep a list to some items."
            )
        self._recommender = recommender
        self._counts = recommender.ranker.model.item_counts
        self._chooser = CandidateChooser(recommender.ranker.model)

    def choose(
        self, histories: Sequence[Sequence[str]], candidates: Sequence[Sequence[str]]
    ) -> list[Choice]:
        """Order the candidates of each history.

        Ids that the catalogue does not have are left out and named in the answer. A history
        without a known item has its candidates ordered by popularity, and the answer says so.

        Args:
            histories: Item ids of each user, oldest first.
            candidates: Item ids to choose from, for each history.

        Returns:
            One choice a history, in order.

        Raises:
            RequestError: When there are not as many lists of candidates as histories, one has no
                known item or more than the model can read, or a list is none of texts.
        """
        check_lists(histories)
        check_lists(candidates, "the list of candidates", "candidates")
        if len(histories) != len(candidates):
            raise RequestError(
                f"there are {len(candidates)} lists of candidates for {len(histories)} histories; "
                "give one each."
            )
        return [self._choose(*each) for each in zip(histories, candidates, strict=True)]

    def _choose(self, history: Sequence[str], candidates: Sequence[str]) -> Choice:
        recommender = self._recommender
        known, unknown = recommender.catalog.rows(history)
        rows, missing = recommender.catalog.rows(candidates)
        if not rows:
            raise RequestError(
                f"none of the {len(candidates)} candidates is in the catalogue; give item ids."
            )
        read = np.asarray(known, dtype=np.int32)
        among = np.asarray(list(dict.fromkeys(rows)), dtype=np.int32)
        if known:
            [ranking] = self._chooser.rank([read], [among])
        else:
            ranking = self._by_popularity(among)
        return Choice(
            items=recommender.items_of(ranking),
            unknown_items=list(dict.fromkeys(unknown)),
            unknown_candidates=list(dict.fromkeys(missing)),
            fallback=popular_instead(history, known),
            history_read=self._chooser.history_read(read, len(among)) if known else 0,
        )

    def _by_popularity(self, rows: NDArray[np.int32]) -> Ranking:
        counts = self._counts[rows]
        order = np.argsort(-counts, kind="stable")
        return Ranking(rows[order], counts[order].astype(np.float32))
