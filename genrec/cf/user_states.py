"""What a collaborative model knows of a user, at the end of a history and on the way."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from genrec.cf.graph_ranker import GraphRanker
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ArtifactError

UserModel = SasRecRanker | GraphRanker


def load_user_model(folder: Path, device: torch.device | str = "cpu") -> UserModel:
    """Load the model whose item and user vectors a folder holds.

    Args:
        folder: A ``cf`` folder that was checked before, or another one that ``save`` of the model
            and ``EmbeddingTable.save`` under the name ``items`` wrote.
        device: Where SASRec computes.

    Raises:
        ArtifactError: When the folder lacks the model.
    """
    name = str(EmbeddingTable.load(folder, "items").origin.get("method"))
    return load_named(folder, name, device)


def load_named(folder: Path, name: str, device: torch.device | str = "cpu") -> UserModel:
    """Load a model with user vectors by name; see ``load_user_model``."""
    if name in ("sasrec", "transition_sasrec"):
        return SasRecRanker.load(folder, device, name)
    if name in ("lightgcn", "bpr"):
        return GraphRanker.load(folder, name)
    raise ArtifactError(
        f"{folder} has vectors of {name!r}, which gives no user vectors; expected sasrec, "
        "transition_sasrec, lightgcn or bpr. Set cf.vectors and run the cf stage again."
    )


def width_of(model: UserModel) -> int:
    """Return the dimensions of a model's user vectors."""
    if isinstance(model, GraphRanker):
        return int(model.items.shape[1])
    return int(model.network.item_vectors.embedding_dim)


@torch.inference_mode()
def item_log_probabilities(
    model: UserModel, histories: Sequence[NDArray[np.int32]]
) -> torch.Tensor:
    """Return what a model thinks comes next, as logarithms, float32[B, items it knows].

    Args:
        model: The collaborative model.
        histories: Its own rows per user, oldest first.
    """
    if isinstance(model, GraphRanker):
        users = torch.from_numpy(model.user_vectors(histories))
        return (users @ torch.from_numpy(model.items).T).log_softmax(1)
    model.network.eval()
    return model.network.scores(model.network.last_states(histories)).log_softmax(1)


@torch.inference_mode()
def states_on_the_way(
    model: UserModel, histories: Sequence[NDArray[np.int32]]
) -> list[NDArray[np.float32]]:
    """Return the user's vector before the first item and after each one, within this history.

    SASRec counts ages from the newest item of what it reads, so its states on the way are those of
    places in this history, not what it would say of the beginnings alone; see
    ``genrec.training.frozen_users`` for those.

    Args:
        model: The collaborative model.
        histories: Catalogue rows per user, oldest first; any may be empty, and none is longer
            than what SASRec reads.

    Returns:
        float32[items + 1, d] for each history; the last row is the user's vector.
    """
    if isinstance(model, GraphRanker):
        return [_sums(model, history) for history in histories]
    if not histories:
        return []
    model.network.eval()
    rows, lengths = model.network.pad(histories)
    states = model.network(rows, lengths).float().cpu().numpy()
    return [states[place, :length] for place, length in enumerate(lengths.tolist())]


def _sums(model: GraphRanker, history: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the vectors of a graph model: each distinct item counts once."""
    first = np.zeros(len(history), dtype=bool)
    first[np.unique(history, return_index=True)[1]] = True
    added = model.folding[history] * first[:, None]
    total = np.concatenate([np.zeros((1, model.folding.shape[1])), added.cumsum(0)])
    distinct = np.append(0, first.cumsum()).clip(min=1)
    states: NDArray[np.float32] = (total / np.sqrt(distinct)[:, None]).astype(np.float32)
    return states
