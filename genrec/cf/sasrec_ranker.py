"""SASRec, plain or aware of transitions, as a recommender: from histories to ranked items."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from genrec.cf.arrays import read_arrays
from genrec.cf.request import check_request
from genrec.cf.sasrec import SasRec
from genrec.data.ranking import Ranking
from genrec.errors import ArtifactError, ConfigError

# Bounds on what one batch holds at once, so that memory does not grow with the data.
POSITIONS_PER_BATCH = 16_384
SCORES_PER_BATCH = 2**24


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
        rankings: dict[int, Ranking] = {}
        self.network.eval()
        for batch in self._batches(histories):
            scores = self.network.scores(self.network.last_states([histories[i] for i in batch]))
            _forbid(scores, [excluded[i] for i in batch])
            best, items = scores.topk(min(k, self.network.items))
            eligible = torch.isfinite(best).sum(dim=1).tolist()
            items_of, scores_of = items.int().cpu().numpy(), best.cpu().numpy()
            for row, i in enumerate(batch):
                count = eligible[row]
                rankings[i] = Ranking(items_of[row, :count], scores_of[row, :count])
        return [rankings[i] for i in range(len(histories))]

    @torch.inference_mode()
    def user_vectors(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Return the state after each history, float32[B, d]."""
        width = self.network.item_vectors.embedding_dim
        vectors = np.zeros((len(histories), width), dtype=np.float32)
        self.network.eval()
        for batch in self._batches(histories):
            states = self.network.last_states([histories[i] for i in batch])
            vectors[batch] = states.cpu().numpy()
        return vectors

    def item_vectors(self) -> NDArray[np.float32]:
        """Return the vector of each catalogue row, float32[n, d]."""
        weight = self.network.item_vectors.weight[: self.network.items]
        return weight.detach().cpu().numpy().copy()

    def _batches(self, histories: Sequence[NDArray[np.int32]]) -> Iterator[NDArray[np.int64]]:
        """Yield positions of histories of similar length, so that little is padding."""
        longest = self.network.max_history
        lengths = np.asarray([min(len(history), longest) + 1 for history in histories])
        order = np.argsort(lengths, kind="stable")
        most = max(1, SCORES_PER_BATCH // self.network.items)
        start = 0
        while start < len(order):
            # The last one taken is the longest, so shrink until its length fits for all.
            end = min(len(order), start + most)
            while end - start > 1 and (end - start) * lengths[order[end - 1]] > POSITIONS_PER_BATCH:
                end = start + (end - start) // 2
            yield order[start:end]
            start = end

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


def _forbid(scores: Tensor, excluded: Sequence[NDArray[np.int32]]) -> None:
    """Set the scores float32[B, n] of each row's excluded items to minus infinity, in place."""
    rows = np.repeat(np.arange(len(excluded)), [len(items) for items in excluded])
    columns = np.concatenate(excluded).astype(np.int64)
    scores[torch.from_numpy(rows), torch.from_numpy(columns)] = float("-inf")
