"""LightGCN: vectors of users and items smoothed over the graph of who chose what."""

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genrec.data.histories import Histories


@dataclass(frozen=True)
class Graph:
    """Which users chose which items; what was chosen twice counts once.

    Attributes:
        users: Number of users.
        items: Number of items.
        user: int64[m], user of each edge.
        item: int64[m], its item.
    """

    users: int
    items: int
    user: Tensor
    item: Tensor

    @classmethod
    def of(cls, sequences: Histories, items: int) -> "Graph":
        """Make the graph of sequences; user i is sequence i."""
        user = np.repeat(np.arange(len(sequences)), sequences.lengths)
        edges = np.unique(user * items + sequences.items.astype(np.int64))
        return cls(
            len(sequences),
            items,
            torch.from_numpy(edges // items),
            torch.from_numpy(edges % items),
        )

    @cached_property
    def user_degree(self) -> Tensor:
        """Items of each user, float32[users], at least 1."""
        return torch.bincount(self.user, minlength=self.users).clamp(min=1).float()

    @cached_property
    def item_degree(self) -> Tensor:
        """Users of each item, float32[items], at least 1."""
        return torch.bincount(self.item, minlength=self.items).clamp(min=1).float()

    @cached_property
    def adjacency(self) -> Tensor:
        """The symmetrically normalised graph, float32[users + items, users + items].

        It is kept in compressed rows, whose products take half the time of those of coordinates.
        An edge of user u and item i has the value ``1 / sqrt(degree(u) * degree(i))``.
        """
        value = (self.user_degree[self.user] * self.item_degree[self.item]).rsqrt()
        row = torch.cat([self.user, self.item + self.users])
        column = torch.cat([self.item + self.users, self.user])
        size = self.users + self.items
        matrix = torch.sparse_coo_tensor(
            torch.stack([row, column]),
            torch.cat([value, value]),
            (size, size),
            check_invariants=True,
        )
        with warnings.catch_warnings():
            # Products with dense matrices, all that is asked of it, are as old as the layout.
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            return matrix.coalesce().to_sparse_csr()


class _SymmetricProduct(torch.autograd.Function):
    """A constant symmetric sparse matrix times vectors; the gradient is the same product.

    What autograd does for any sparse matrix, transposing it first, takes twice as long.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, vectors: Tensor) -> Tensor:  # noqa: ANN401 - as in torch
        ctx.matrix = matrix
        return matrix @ vectors

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:  # noqa: ANN401 - as in torch
        return None, ctx.matrix @ gradients[0]


class LightGcn(nn.Module):
    """Vectors of users and items, averaged over the layers of a linear graph convolution.

    Each layer replaces a vector by the normalised sum of those of its neighbours; there is nothing
    else to learn than the vectors before the first layer (He et al., "LightGCN", SIGIR 2020,
    equations 3 and 4). Without layers it is matrix factorization for ranking (BPR, Rendle et al.,
    UAI 2009).

    Args:
        graph: The training events.
        dimensions: Width of the vectors.
        layers: Convolutions; 0 is BPR.
    """

    def __init__(self, graph: Graph, *, dimensions: int = 64, layers: int = 3) -> None:
        super().__init__()
        self.graph = graph
        self.layers = layers
        self.vectors = nn.Parameter(torch.empty(graph.users + graph.items, dimensions))
        nn.init.normal_(self.vectors, std=0.1)
        self.register_buffer("adjacency", graph.adjacency, persistent=False)

    def all_layers(self) -> list[Tensor]:
        """Return the vectors after each layer, float32[users + items, d], those before included."""
        steps: list[Tensor] = [self.vectors]
        adjacency: Tensor = self.get_buffer("adjacency")
        for _ in range(self.layers):
            steps.append(_SymmetricProduct.apply(adjacency, steps[-1]))  # type: ignore[no-untyped-call]
        return steps

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return user vectors float32[users, d] and item vectors float32[items, d]."""
        mean = torch.stack(self.all_layers()).mean(0)
        return mean[: self.graph.users], mean[self.graph.users :]

    def loss(self, user: Tensor, item: Tensor, other: Tensor, regularisation: float) -> Tensor:
        """Return the BPR loss of triples: an item a user chose above one it did not.

        Args:
            user: int64[B].
            item: int64[B], chosen.
            other: int64[B], not chosen.
            regularisation: Weight of the squared lengths of the vectors before the first layer.
        """
        users, items = self()
        wanted = (users[user] * items[item]).sum(1)
        unwanted = (users[user] * items[other]).sum(1)
        base = self.vectors
        first = self.graph.users
        squares = base[user].square() + base[first + item].square() + base[first + other].square()
        ranking = nn.functional.softplus(unwanted - wanted).mean()
        return ranking + regularisation * squares.sum() / (2 * len(user))

    @torch.no_grad()
    def item_vectors(self) -> NDArray[np.float32]:
        """Return the vector of each catalogue row, float32[items, d]."""
        vectors: NDArray[np.float32] = self()[1].cpu().numpy()
        return vectors

    @torch.no_grad()
    def user_vectors(self) -> NDArray[np.float32]:
        """Return the vector of each training sequence's user, float32[users, d]."""
        vectors: NDArray[np.float32] = self()[0].cpu().numpy()
        return vectors

    @torch.no_grad()
    def folding_vectors(self) -> NDArray[np.float32]:
        """Return what an item adds to the vector of a user who chose it, float32[items, d].

        A user that was not in the graph gets the convolutions of its items: their sum over
        ``sqrt(number of items)``. Without layers one convolution stands in, for there is no other
        way from items to a user.
        """
        steps = self.all_layers()[: max(1, self.layers)]
        first = self.graph.users
        items = torch.stack([step[first:] for step in steps]).sum(0) / (self.layers + 1)
        degree = self.graph.item_degree.to(items.device)
        vectors: NDArray[np.float32] = (items * degree.rsqrt().unsqueeze(1)).cpu().numpy()
        return vectors
