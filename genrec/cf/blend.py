"""A collaborative model and item neighbours together.

A sequence model has learned what usually follows; what a few people chose together with the items
of a history it has mostly forgotten. Item neighbours remember just that. The probability of an item
is the mean of both, the share of the neighbours chosen on validation users.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor

from genrec.cf.arrays import read_arrays
from genrec.cf.item_knn import ItemKnn
from genrec.cf.progress import training_progress
from genrec.cf.request import check_request
from genrec.cf.scoring import length_batches, rank_by_scores
from genrec.cf.user_states import UserModel, item_log_probabilities, load_user_model
from genrec.data.histories import Histories
from genrec.data.ranking import Ranking
from genrec.errors import ArtifactError

NAME = "blend"
FILE_NAME = f"{NAME}.safetensors"
SHARES = tuple(round(0.1 * step, 1) for step in range(10))
CUTOFF = 10


@dataclass(frozen=True)
class Neighbours:
    """What item neighbours add to the probabilities of another model.

    Attributes:
        knn: The neighbours.
        share: Their share, from 0 to below 1.
    """

    knn: ItemKnn
    share: float

    def mixed(self, logs: Tensor, histories: Sequence[NDArray[np.int32]]) -> Tensor:
        """Return ``log((1 - share) * p + share * p of the neighbours)``, float32[B, n].

        A history without neighbours leaves the order as it is.

        Args:
            logs: float32[B, n], log-probabilities of the other model.
            histories: Catalogue rows, oldest first.
        """
        near = torch.from_numpy(self.knn.probabilities(histories)).to(logs)
        return _mixed(logs, near, self.share)


@dataclass(frozen=True)
class Blend:
    """Ranks items by the mean probability of a collaborative model and item neighbours.

    Attributes:
        user_model: The collaborative model.
        neighbours: The item neighbours and their share.
    """

    user_model: UserModel
    neighbours: Neighbours

    @classmethod
    def fit(
        cls, user_model: UserModel, knn: ItemKnn, validation: Histories, *, quiet: bool = True
    ) -> "Blend":
        """Choose the share with the best NDCG@10, items of the history left out.

        Args:
            user_model: The collaborative model, trained.
            knn: The item neighbours.
            validation: Histories with targets; without any the share is 0.
            quiet: No progress bar.
        """
        histories = [validation[i] for i in range(len(validation))]
        items = len(knn.popularity.counts)
        gains = np.zeros(len(SHARES))
        with training_progress(quiet) as progress:
            task = progress.add_task("share of item neighbours", total=len(histories))
            for batch in length_batches(histories, _longest(histories), items):
                own = [histories[i] for i in batch]
                logs = item_log_probabilities(user_model, own)
                near = torch.from_numpy(knn.probabilities(own)).to(logs)
                targets = torch.from_numpy(validation.target[batch]).to(logs.device).long()
                seen = torch.zeros_like(logs, dtype=torch.bool)
                for row, history in enumerate(own):
                    seen[row, history] = True
                for place, share in enumerate(SHARES):
                    mixed = _mixed(logs, near, share).masked_fill(seen, -torch.inf)
                    answer = mixed.gather(1, targets[:, None])
                    ahead = (mixed > answer).sum(1)[answer[:, 0].isfinite()]
                    gains[place] += float((1 / torch.log2(ahead[ahead < CUTOFF] + 2.0)).sum())
                progress.update(task, advance=len(batch))
        return cls(user_model, Neighbours(knn, SHARES[int(np.argmax(gains))]))

    @property
    def name(self) -> str:
        """Name in tables."""
        return NAME

    @torch.inference_mode()
    def rank(
        self,
        histories: Sequence[NDArray[np.int32]],
        k: int,
        *,
        exclude: Sequence[NDArray[np.int32]] | None = None,
    ) -> list[Ranking]:
        """Rank items for each history; see ``RankingModel.rank``."""
        items = len(self.neighbours.knn.popularity.counts)
        return rank_by_scores(
            histories,
            k,
            check_request(histories, k, exclude, items),
            lambda own: self.neighbours.mixed(item_log_probabilities(self.user_model, own), own),
            longest=_longest(histories),
            items=items,
        )

    def save(self, folder: Path) -> None:
        """Write ``blend.safetensors``: the share; both models are in the folder already."""
        save_file({"share": np.array([self.neighbours.share])}, folder / FILE_NAME)

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> "Blend":
        """Read what ``save`` wrote, and both models.

        Raises:
            ArtifactError: When a file is missing or damaged.
        """
        return cls(load_user_model(folder, device), load_neighbours(folder))


def _longest(histories: Sequence[NDArray[np.int32]]) -> int:
    """Return the length of the longest history: neighbours read all of each."""
    return max(map(len, histories), default=0)


def _mixed(logs: Tensor, near: Tensor, share: float) -> Tensor:
    """Return the logarithm of ``(1 - share) * exp(logs) + share * near``."""
    if not share:
        return logs
    return torch.logaddexp(logs + math.log1p(-share), near.log() + math.log(share))


def load_neighbours(folder: Path) -> Neighbours:
    """Load the item neighbours of a blend from a ``cf`` folder that was checked before.

    Raises:
        ArtifactError: When the stage did not fit them.
    """
    if not (folder / FILE_NAME).is_file():
        raise ArtifactError(
            f"{folder} holds no {NAME}; add item_knn and {NAME} to cf.models and run the cf stage "
            "again."
        )
    share = float(read_arrays(folder / FILE_NAME, ("share",))["share"][0])
    return Neighbours(ItemKnn.load(folder), share)
