"""SASRec, plain or aware of transitions, as a recommender: from histories to ranked items."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from genrec.cf.arrays import read_arrays
from genrec.cf.request import check_request
from genrec.cf.sasrec import SasRec
from genrec.cf.scoring import length_batches, rank_by_scores
from genrec.data.ranking import Ranking
from genrec.errors import ArtifactError, ConfigError


class SasRecRanker:
    """Ranks items by the product of the state after the history and each item's vector.

    Args:
        network: The network, trained or not.
        name: Name in tables and of its files.
    """

    def __init__(self, network: SasRec, name: str = "sasrec") -> None:
        self.network = network
        self.name = name

    @torch.inference_mode()
    def rank(
        self,
        histories: Sequence[NDArray[np.int32]],
        k: int,
        *,
        exclude: Sequence[NDArray[np.int32]] | None = None,
    ) -> list[Ranking]:
        """Rank items for each history; an empty history gets what users tend to start with.

        Args:
            histories: Catalogue rows per user, oldest first; may be empty.
            k: Number of items wanted; fewer are returned only when fewer are eligible.
            exclude: Catalogue rows per user that must not be returned.

        Raises:
            RequestError: When k is below 1, a row is outside the catalogue, or ``exclude`` does
                not have one entry a history.
        """
        excluded = check_request(histories, k, exclude, self.network.items)
        network = self.network.eval()
        return rank_by_scores(
            histories,
            k,
            excluded,
            lambda own: network.scores(network.last_states(own)),
            longest=network.max_history,
            items=network.items,
        )

    @torch.inference_mode()
    def user_vectors(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Return the state after each history, float32[B, d]."""
        width = self.network.item_vectors.embedding_dim
        vectors = np.zeros((len(histories), width), dtype=np.float32)
        self.network.eval()
        for batch in length_batches(histories, self.network.max_history, self.network.items):
            states = self.network.last_states([histories[i] for i in batch])
            vectors[batch] = states.cpu().numpy()
        return vectors

    def item_vectors(self) -> NDArray[np.float32]:
        """Return the vector of each catalogue row, float32[n, d]."""
        weight = self.network.item_vectors.weight[: self.network.items]
        return weight.detach().cpu().numpy().copy()

    def save(self, folder: Path) -> None:
        """Write ``NAME.safetensors`` and ``NAME.json`` into the folder."""
        weights = {name: value.contiguous() for name, value in self.network.state_dict().items()}
        save_file(weights, folder / f"{self.name}.safetensors")
        body = json.dumps(self.network.settings, indent=2)
        (folder / f"{self.name}.json").write_text(body + "\n")

    @classmethod
    def load(
        cls, folder: Path, device: torch.device | str = "cpu", name: str = "sasrec"
    ) -> "SasRecRanker":
        """Read what ``save`` wrote.

        Raises:
            ArtifactError: When a file is missing or damaged.
        """
        path = folder / f"{name}.json"
        if not path.is_file():
            raise ArtifactError(f"{path} is missing; run the cf stage again.")
        try:
            network = SasRec(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError, ConfigError) as error:
            raise ArtifactError(
                f"{path} cannot be read ({error}); run the cf stage again."
            ) from error
        weights = folder / f"{name}.safetensors"
        arrays = read_arrays(weights, tuple(network.state_dict()))
        try:
            network.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})
        except RuntimeError as error:
            raise ArtifactError(
                f"{weights} does not fit {path.name} ({error}); run the cf stage again."
            ) from error
        return cls(network.to(device).eval(), name)
