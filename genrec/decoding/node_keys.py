"""Nodes of the trie for each request of a batch, as sorted numbers that are found by bisection."""

import torch
from torch import Tensor


def node_keys(requests: Tensor, nodes: Tensor, size: int) -> Tensor:
    """Return one number for a request and a node of a level with ``size`` nodes, int64."""
    return requests * size + nodes


def find(keys: Tensor, nodes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Look up nodes among sorted keys.

    Args:
        keys: int64[m], from ``node_keys``, ascending, none twice.
        nodes: int64[requests, ...], nodes of the level.
        size: Nodes of the level.

    Returns:
        The place of each among the keys, int64 of the shape of ``nodes``, and whether it is there;
        a place is 0 where it is not.
    """
    if len(keys) == 0:
        return torch.zeros_like(nodes), torch.zeros_like(nodes, dtype=torch.bool)
    requests = torch.arange(len(nodes), device=nodes.device).view(-1, *[1] * (nodes.dim() - 1))
    wanted = node_keys(requests, nodes, size)
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    there = keys[place] == wanted
    return place.where(there, 0), there
