"""Tensors of which every process holds a piece, as FSDP cuts them; others are whole already."""

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def own_piece(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor, sharing its memory."""
    held = tensor.detach()
    return held.to_local() if isinstance(held, DTensor) else held


def whole(piece: Tensor, like: Tensor) -> Tensor:
    """Put the pieces of all processes together; each of them has to ask.

    Args:
        piece: What this process holds.
        like: A tensor that is cut in the same way.
    """
    if not isinstance(like, DTensor):
        return piece
    together = DTensor.from_local(
        piece, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    )
    return together.full_tensor()


def piece_of(value: Tensor, like: Tensor) -> Tensor:
    """Cut a whole tensor as another one is cut, and return this process' piece."""
    if not isinstance(like, DTensor):
        return value
    placed = value.to(like.device_mesh.device_type)
    return distribute_tensor(placed, like.device_mesh, like.placements).to_local()
