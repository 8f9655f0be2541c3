"""Tensors of which every process holds a piece, as FSDP cuts them; others are whole already."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from genrec import processes


def cut(
    module: nn.Module, *, reshard_after_forward: bool, offload_policy: OffloadPolicy | None
) -> int:
    """Leave each process a piece of every parameter, and return the number of groups (FSDP2).

    A group is put together while it computes: each layer of the language model is one, and all
    that is left is another. Number types stay as they are; autocast chooses those of products.

    Args:
        module: Changed in place; ``trained`` in it is one of transformers' models.
        reshard_after_forward: Put layers together again for the backward pass, which takes less
            memory and more time.
        offload_policy: Where pieces lie while they wait.
    """
    model: Any = module.trained
    settings: dict[str, Any] = {}
    if offload_policy is not None:
        settings["offload_policy"] = offload_policy
    named = set(model._no_split_modules or ())
    layers = [each for each in module.modules() if type(each).__name__ in named]
    for layer in layers:
        fully_shard(layer, reshard_after_forward=reshard_after_forward, **settings)
    fully_shard(module, **settings)
    assert isinstance(module, FSDPModule)
    if hasattr(module, "set_reduce_scatter_unused_params"):
        # What has no gradient in this process may have one in another.
        module.set_reduce_scatter_unused_params(True)
    return len(layers) + 1


def own_piece(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor, sharing its memory."""
    held = tensor.detach()
    return held.to_local() if isinstance(held, DTensor) else held


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor with the pieces of all processes; each of them has to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def joined(piece: Tensor, like: Tensor) -> Tensor:
    """Put the pieces of all processes together; each of them has to ask.

    Args:
        piece: What this process holds.
        like: A tensor that is cut in the same way.
    """
    if not isinstance(like, DTensor):
        return piece
    return whole(
        DTensor.from_local(
            piece, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
        )
    )


def piece_of(value: Tensor, like: Tensor) -> Tensor:
    """Cut a whole tensor as another one is cut, and return this process' piece."""
    if not isinstance(like, DTensor):
        return value
    placed = value.to(like.device_mesh.device_type)
    return distribute_tensor(placed, like.device_mesh, like.placements).to_local()


def in_pieces(parameters: Mapping[str, Tensor]) -> bool:
    """Tell whether parameters were cut."""
    return any(isinstance(each, DTensor) for each in parameters.values())


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that change in a training, by name."""
    return {name: each for name, each in module.named_parameters() if each.requires_grad}


def save_joined(pieces: Mapping[str, Tensor], like: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors whole; all processes call it, for each may hold a piece, and one writes.

    Args:
        pieces: What this process holds.
        like: Tensors that are cut in the same way, by the same names.
        path: The file.
    """
    together = {name: joined(piece, like[name]).contiguous() for name, piece in pieces.items()}
    if processes.is_first():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(together, path)


def load_pieces(pieces: Mapping[str, Tensor], like: Mapping[str, Tensor], path: Path) -> None:
    """Read what ``save_joined`` wrote into the pieces of this process."""
    for name, value in load_file(path).items():
        pieces[name].copy_(piece_of(value, like[name]))
