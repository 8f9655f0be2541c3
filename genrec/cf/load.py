"""The fitted baselines of a run, by name."""

from pathlib import Path
from typing import Literal

import torch

from genrec import artifacts
from genrec.cf.popularity import Popularity
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.cf.transition import Transition
from genrec.data.ranking import RankingModel

Name = Literal["popularity", "transition", "sasrec"]
NAMES: tuple[Name, ...] = ("popularity", "transition", "sasrec")


def load(folder: Path, name: Name, device: torch.device | str = "cpu") -> RankingModel:
    """Load one baseline from a finished ``cf`` folder.

    Args:
        folder: The ``cf`` folder of a run.
        name: ``popularity``, ``transition`` or ``sasrec``.
        device: Where SASRec computes.

    Raises:
        ArtifactError: When the folder is missing, damaged or not a ``cf`` folder.
    """
    artifacts.verify(folder, "cf")
    if name == "popularity":
        return Popularity.load(folder)
    if name == "transition":
        return Transition.load(folder)
    return SasRecRanker.load(folder, device)
