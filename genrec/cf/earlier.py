"""What the cf folder of before still gives: models whose settings are those of now."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from genrec import __version__, artifacts
from genrec.cf.fit_sasrec import FittedSasRec, SasRecName
from genrec.cf.graph_ranker import GraphRanker
from genrec.config import CfConfig
from genrec.errors import ArtifactError

logger = logging.getLogger(__name__)

# Keys of the section that no trained model depends on, and the tables of single models.
_OTHERS = {"models", "vectors", "item_knn"}
_GRAPH, _AWARE = "graph", "transition_sasrec"


@dataclass(frozen=True)
class Earlier:
    """A finished ``cf`` folder that is about to be written again.

    A recipe that names one more model does not train the others anew: what was trained by this
    version of genrec on the same data, with the same seed and settings, is kept.

    Attributes:
        folder: The folder.
        section: What it was made with, or none when nothing of it can be kept.
    """

    folder: Path
    section: CfConfig | None

    @classmethod
    def of(cls, folder: Path, dataset_digest: str, seed: int) -> "Earlier":
        """Look at a folder, which need not be there.

        Args:
            folder: The ``cf`` folder of a run.
            dataset_digest: Digest of the dataset of now.
            seed: Seed of now.
        """
        if not folder.exists():
            return cls(folder, None)
        try:
            manifest = artifacts.verify(folder, "cf")
            section = CfConfig.model_validate(manifest.config)
        except (ArtifactError, ValidationError) as error:
            logger.warning("nothing of %s is kept: %s", folder, error)
            return cls(folder, None)
        found = manifest.inputs["dataset"]["digest"], manifest.seed, manifest.genrec_version
        same = found == (dataset_digest, seed, __version__)
        return cls(folder, section if same else None)

    def sasrec(
        self, name: SasRecName, section: CfConfig, device: torch.device
    ) -> FittedSasRec | None:
        """Return a SASRec of before, or none when it has to be trained.

        Args:
            name: Which of the two.
            section: The settings of now.
            device: Where it shall compute.
        """
        held = self._holds(name, section)
        return FittedSasRec.load(self.folder, name, device) if held else None

    def graph(self, name: str, section: CfConfig, target: Path) -> GraphRanker | None:
        """Copy LightGCN or BPR with its log to another folder and return it, or none if not here.

        Args:
            name: ``lightgcn`` or ``bpr``.
            section: The settings of now.
            target: Folder to copy to.
        """
        if not self._holds(name, section):
            return None
        for ending in ("safetensors", "json"):
            shutil.copy2(self.folder / f"{name}.{ending}", target)
        return GraphRanker.load(target, name)

    def _holds(self, name: str, section: CfConfig) -> bool:
        if self.section is None or not (self.folder / f"{name}.safetensors").is_file():
            return False
        if _settings(self.section, name) != _settings(section, name):
            return False
        logger.info(
            "%s is kept from %s, which was made with the same data and settings; delete the "
            "folder to train it anew",
            name,
            self.folder,
        )
        return True


def _settings(section: CfConfig, name: str) -> dict[str, Any]:
    """Return the settings that a trained model depends on."""
    values: dict[str, Any] = section.model_dump(mode="json", exclude=_OTHERS)
    graph, aware = values.pop(_GRAPH), values.pop(_AWARE)
    if name in ("lightgcn", "bpr"):
        return {key: value for key, value in graph.items() if name == "lightgcn" or key != "layers"}
    return values | {_AWARE: aware} if name == _AWARE else values
