"""Several processes that train one model together, as a launcher such as accelerate's starts them.

Every process has the whole model, or a piece of it, and reads its own share of the batches; what is
written, shown and validated is the first one's. With one process everything here does nothing.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

Value = TypeVar("Value")

# How long a process waits for the others: the first one may validate for hours. One that died is
# noticed by the launcher.
_PATIENCE = timedelta(days=1)
# The one way to cut weights in pieces that is known here.
IN_PIECES = "FSDP2"
# Weights are whole in every process; the optimizer and gradients are in pieces.
DEEPSPEED = "DeepSpeed"
# What accelerate's configuration files switch on through the environment.
_SHARDING = {"FSDP": "FSDP", "DEEPSPEED": DEEPSPEED, "MEGATRON_LM": "Megatron-LM"}


def count() -> int:
    """Return how many processes there are."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def place() -> int:
    """Return the number of this one, from 0."""
    return int(os.environ.get("RANK") or 0) if count() > 1 else 0


def place_on_machine() -> int:
    """Return the number of this one among those of its machine: the GPU it takes."""
    return int(os.environ.get("LOCAL_RANK") or 0)


def is_first() -> bool:
    """Tell whether this process writes, shows and validates."""
    return place() == 0


def sharding() -> str | None:
    """Return what the launcher wants to cut what is trained in pieces with, if anything."""
    for name, what in _SHARDING.items():
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() in ("true", "1"):
            newer = name == "FSDP" and os.environ.get("FSDP_VERSION") == "2"
            return IN_PIECES if newer else what
    return None


def join(*, cpu: bool) -> None:
    """Meet the other processes; each waits until all are there."""
    if count() > 1:
        from accelerate import PartialState

        # Accelerate knows DeepSpeed only where it may look for a GPU; it finds none and goes on.
        PartialState(cpu=cpu and sharding() != DEEPSPEED, timeout=_PATIENCE)


def wait() -> None:
    """Wait until all processes are here."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


@contextmanager
def first_before_others() -> Iterator[None]:
    """Let the first process through a block, then the others: it makes files that they read."""
    if not is_first():
        wait()
    yield
    if is_first():
        wait()


def from_first(make: Callable[[], Value]) -> Value:
    """Let the first process make a value and give it to all; the others wait for it.

    Args:
        make: Returns what JSON can hold, numbers that are not finite included.
    """
    if count() == 1:
        return make()
    import torch
    from accelerate import PartialState

    device = PartialState().device
    # Not as an object, which would travel pickled.
    text = json.dumps(make()).encode() if is_first() else b""
    length = torch.tensor(len(text), device=device)
    torch.distributed.broadcast(length, 0)
    body = torch.zeros(int(length), dtype=torch.uint8, device=device)
    if is_first():
        body.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
    torch.distributed.broadcast(body, 0)
    value: Value = json.loads(bytes(body.cpu().tolist()))
    return value


def totals(values: Sequence[float]) -> list[float]:
    """Return each of some numbers added up over all processes."""
    if count() == 1:
        return list(values)
    import torch
    from accelerate import PartialState

    device = PartialState().device
    # In double precision where the device has it: these are counts of tokens as well.
    dtype = torch.float32 if device.type == "mps" else torch.float64
    whole = torch.tensor(list(values), dtype=dtype, device=device)
    torch.distributed.all_reduce(whole)
    return [float(value) for value in whole.tolist()]
