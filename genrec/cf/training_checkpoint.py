"""Where an interrupted training goes on: one file, replaced whole after every epoch.

Trainings without a running average of their weights leave that part empty.
"""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from genrec.errors import ArtifactError

logger = logging.getLogger(__name__)

FILE_NAME = "state.safetensors"
GROUPS = ("weights", "average", "best", "optimizer")


@dataclass(frozen=True)
class State:
    """Everything the next epoch depends on; random numbers depend on seed and epoch alone.

    Attributes:
        weights: Weights after the last finished epoch.
        average: Their running average.
        best: The average after the epoch with the best validation NDCG@10.
        optimizer: State of Adam or AdamW: parameter number and entry, ``0.exp_avg`` -> tensor.
        log: One entry a finished epoch.
    """

    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    best: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    log: list[dict[str, Any]]


def packed(state: Mapping[Any, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return moments and step counts of an optimizer's parameters as named tensors."""
    return {
        f"{parameter}.{entry}": value
        for parameter, entries in state.items()
        for entry, value in entries.items()
    }


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return what ``packed`` was given, with the names of parameters as texts."""
    state: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        parameter, _, entry = name.rpartition(".")
        state.setdefault(parameter, {})[entry] = value
    return state


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's moments and step counts as named tensors."""
    return packed(optimizer.state_dict()["state"])


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what ``pack_optimizer`` returned."""
    state = {int(parameter): entries for parameter, entries in unpacked(tensors).items()}
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


class Checkpoint:
    """The saved state of one training.

    Args:
        folder: Where the file lies; made when it is first written.
        identity: What the training is made from (settings, seed, digest of the data). A file
            with another identity is not continued.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.path = folder / FILE_NAME
        self.identity = identity

    def save(self, state: State) -> None:
        """Replace the file by this state; a kill at any moment leaves the old or the new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {}
        for group in GROUPS:
            values: dict[str, Tensor] = getattr(state, group)
            tensors |= {f"{group}/{name}": value for name, value in values.items()}
        header = {"identity": json.dumps(self.identity), "log": json.dumps(state.log)}
        partial = self.path.with_suffix(".partial")
        save_file(tensors, partial, metadata=header)
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        partial.replace(self.path)

    def load(self) -> State | None:
        """Return the saved state, or none when there is none of this training.

        Raises:
            ArtifactError: When the file is damaged.
        """
        if not self.path.is_file():
            return None
        groups: dict[str, dict[str, Tensor]] = {group: {} for group in GROUPS}
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata()
                if json.loads(header["identity"]) != self.identity:
                    logger.warning(
                        "%s is of a training with other settings or data; starting anew.",
                        self.path,
                    )
                    return None
                for key in file.keys():
                    group, _, name = key.partition("/")
                    groups[group][name] = file.get_tensor(key)
                log = json.loads(header["log"])
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"{self.path} cannot be read ({error}); delete it to start the training anew."
            ) from error
        return State(**groups, log=log)
