"""The fitted baselines of a run, by name."""

from collections.abc import Callable
from pathlib import Path

import torch

from genrec import artifacts
from genrec.cf.blend import Blend
from genrec.cf.graph_ranker import GraphRanker
from genrec.cf.item_knn import ItemKnn
from genrec.cf.popularity import Popularity
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.cf.transition import Transition
from genrec.config import Baseline
from genrec.data.ranking import RankingModel
from genrec.errors import ArtifactError


def load(folder: Path, name: Baseline, device: torch.device | str = "cpu") -> RankingModel:
    """Load one baseline from a finished ``cf`` folder.

    Args:
        folder: The ``cf`` folder of a run.
        name: A baseline that the stage fitted.
        device: Where SASRec computes.

    Raises:
        ArtifactError: When the folder is missing, damaged or not a ``cf`` folder.
    """
    artifacts.verify(folder, "cf")
    return loader(folder, name, device)()


def loader(
    folder: Path, name: Baseline, device: torch.device | str = "cpu"
) -> Callable[[], RankingModel]:
    """Return what loads one baseline from a ``cf`` folder that was checked before.

    Raises:
        ArtifactError: When the stage did not fit it.
    """
    if not (folder / f"{name}.safetensors").is_file():
        raise ArtifactError(
            f"{folder} holds no {name}; add it to cf.models and run the cf stage again."
        )
    loaders: dict[Baseline, Callable[[], RankingModel]] = {
        "popularity": lambda: Popularity.load(folder),
        "transition": lambda: Transition.load(folder),
        "item_knn": lambda: ItemKnn.load(folder),
        "sasrec": lambda: SasRecRanker.load(folder, device),
        "transition_sasrec": lambda: SasRecRanker.load(folder, device, "transition_sasrec"),
        "lightgcn": lambda: GraphRanker.load(folder, "lightgcn"),
        "bpr": lambda: GraphRanker.load(folder, "bpr"),
        "blend": lambda: Blend.load(folder, device),
    }
    return loaders[name]
