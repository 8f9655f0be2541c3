"""Optimizer and schedule in a checkpoint: whole and by name, for any number of processes.

Tensors and JSON in one file; nothing in it is code.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from genrec import processes
from genrec.cf.training_checkpoint import packed, unpacked

FILE_NAME = "optimizer.safetensors"
Schedule = torch.optim.lr_scheduler.LRScheduler
# Put together from all processes, beside the GPU. A parameter that never had a gradient has none.
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, strict=False)


def save_optimizer(
    module: nn.Module, optimizer: torch.optim.Optimizer, schedule: Schedule, folder: Path
) -> None:
    """Write the state of a training beside its weights; all processes call it, one writes.

    Args:
        module: What is trained; its names stand for the parameters.
        optimizer: Of these parameters.
        schedule: Of its step sizes.
        folder: The checkpoint.
    """
    state = get_optimizer_state_dict(module, optimizer, options=_WHOLE)
    if processes.is_first():
        header = {
            "groups": json.dumps(state["param_groups"]),
            "schedule": json.dumps(schedule.state_dict()),
        }
        moments: Any = state["state"]
        save_file(packed(moments), folder / FILE_NAME, metadata=header)


def load_optimizer(
    module: nn.Module, optimizer: torch.optim.Optimizer, schedule: Schedule, folder: Path
) -> None:
    """Read what ``save_optimizer`` wrote."""
    with safe_open(folder / FILE_NAME, framework="pt") as file:
        header = file.metadata()
        moments = unpacked({name: file.get_tensor(name) for name in file.keys()})
    state: Any = {"state": moments, "param_groups": json.loads(header["groups"])}
    set_optimizer_state_dict(module, optimizer, state, options=_WHOLE)
    schedule.load_state_dict(json.loads(header["schedule"]))
