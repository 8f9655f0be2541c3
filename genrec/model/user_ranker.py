"""Molar's user-side model as a recommender: from histories to ranked items."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from genrec.cf.request import check_request
from genrec.cf.scoring import length_batches, rank_by_scores
from genrec.data.ranking import Ranking
from genrec.model.user_model import UserModel


class UserRanker:
    """Ranks items by the product of the user vector and each item's projected vector.

    An item of which nothing is known, whose vector is zero, is never returned.
    """

    def __init__(self, network: UserModel) -> None:
        self.network = network

    @property
    def name(self) -> str:
        """Name in tables."""
        return "molar"

    @torch.inference_mode()
    def rank(
        self,
        histories: Sequence[NDArray[np.int32]],
        k: int,
        *,
        exclude: Sequence[NDArray[np.int32]] | None = None,
    ) -> list[Ranking]:
        """Rank items for each history; see ``RankingModel.rank``.

        Raises:
            RequestError: When k is below 1, a row is outside the catalogue, or ``exclude`` does
                not have one entry a history.
        """
        excluded = check_request(histories, k, exclude, len(self.network.items))
        network = self.network.eval()
        items = network.item_vectors()
        unknown = ~network.items.any(dim=1)
        return rank_by_scores(
            histories,
            k,
            excluded,
            lambda own: network.scores(network.last_states(own), items).masked_fill(
                unknown, float("-inf")
            ),
            longest=network.max_history,
            items=len(items),
        )

    @torch.inference_mode()
    def user_vectors(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Return the user vector after each history, float32[B, h]."""
        self.network.eval()
        vectors = np.zeros((len(histories), len(self.network.user)), dtype=np.float32)
        for batch in length_batches(histories, self.network.max_history, len(self.network.items)):
            states = self.network.last_states([histories[i] for i in batch])
            vectors[batch] = states.cpu().numpy()
        return vectors

    @torch.inference_mode()
    def item_vectors(self) -> NDArray[np.float32]:
        """Return the projected vector of each catalogue row, float32[n, h]."""
        self.network.eval()
        vectors: NDArray[np.float32] = self.network.item_vectors().cpu().numpy()
        return vectors
