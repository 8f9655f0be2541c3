"""Training the dense side: the state before an item is to tell it from all others by vectors."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from genrec.embeddings.spread import spread
from genrec.embeddings.whitening import whitened
from genrec.model.dense_side import DenseSide
from genrec.training.post_alignment import PostAlignment
from genrec.training.teacher import Teacher

# Spread of what is learned of each item at the start, as in SASRec.
START = 0.02
# That of what a given vector says: larger, since it is what is known before anything is learned.
GIVEN_START = 0.1


class DenseLearner(nn.Module):
    """User and item vectors that are learned.

    The vector of item i is ``e_i + P x_i``: what is learned of the item itself, and what its given
    vector ``x_i``, whitened or centred and scaled, says. An item without training events has only
    the latter (the mean vector, where there is none), and is no wrong answer to anybody's history,
    so nothing pushes it away.

    Args:
        hidden: Width of the language model.
        item_counts: int64[n], training events of each item.
        vectors: float32[n, w], given vectors; None for none.
        dimensions: Width of the vectors.
        directions: Principal directions of given vectors that are read, all equally loud; None
            reads the vectors as they are, centred.
    """

    known: Tensor
    has_events: Tensor
    place: Tensor
    given: Tensor

    def __init__(
        self,
        hidden: int,
        item_counts: NDArray[np.int64],
        vectors: NDArray[np.float32] | None,
        dimensions: int,
        *,
        directions: int | None = None,
    ) -> None:
        super().__init__()
        known = torch.from_numpy(np.flatnonzero(item_counts > 0))
        place = torch.zeros(len(item_counts), dtype=torch.int64)
        place[known] = torch.arange(len(known))
        table = np.zeros((len(item_counts), 0), np.float32) if vectors is None else vectors
        self.register_buffer("known", known, persistent=False)
        has_events = torch.from_numpy(item_counts > 0)
        self.register_buffer("has_events", has_events, persistent=False)
        self.register_buffer("place", place, persistent=False)
        read = spread(table) if directions is None else whitened(table, directions)
        self.register_buffer("given", torch.from_numpy(read), persistent=False)
        self.dimensions = dimensions
        self.user = nn.Linear(hidden, dimensions)
        self.own = nn.Embedding(len(known), dimensions)
        nn.init.normal_(self.own.weight, std=START)
        self.projection = None
        if vectors is not None:
            self.projection = nn.Linear(read.shape[1], dimensions, bias=False)
            nn.init.normal_(self.projection.weight, std=GIVEN_START / read.shape[1] ** 0.5)

    def items(self) -> Tensor:
        """Return the vectors of items with training events, float32[m, d]."""
        own = self.own.weight
        return own if self.projection is None else own + self.projection(self.given[self.known])

    def vectors_of(self, rows: Tensor) -> Tensor:
        """Return the vectors of catalogue rows, float32[m, d] for int64[m].

        An item without training events has what ``served`` gives it.
        """
        unknown = self.own.weight.mean(0) if self.projection is None else torch.zeros(())
        known = self.has_events[rows].unsqueeze(1)
        own = torch.where(known, self.own(self.place[rows]), unknown.to(self.own.weight))
        return own if self.projection is None else own + self.projection(self.given[rows])

    def loss(self, states: Tensor, answers: Tensor, soft: Tensor | None, share: float) -> Tensor:
        """Return the mean cross-entropy over all items with training events.

        Args:
            states: float[P, hidden], what precedes each item.
            answers: int64[P], the catalogue row of the item.
            soft: float32[P, n], a teacher's distribution; None for none.
            share: Part of the loss that is the teacher's.
        """
        # A language model in half precision gives states in it, whatever the trainer casts.
        logits = self.user(states.to(self.user.weight.dtype)) @ self.items().T
        # Over a large catalogue this is most of the work of a step: one pass over the logits, in
        # the number type they came in; only the losses are added up in float32.
        with torch.autocast(logits.device.type, enabled=False):
            targets = self.place[answers]
            if soft is not None:
                targets = self._blended(targets, soft.to(logits.dtype), share)
            losses = functional.cross_entropy(logits, targets, reduction="none")
            return losses.float().mean()

    def _blended(self, places: Tensor, soft: Tensor, share: float) -> Tensor:
        """Return the events and the teacher's distribution as one, [P, items with events]."""
        if len(self.known) < soft.shape[1]:
            soft = soft[:, self.known]
            soft = soft / soft.sum(1, keepdim=True)
        blended = share * soft
        blended[torch.arange(len(places), device=places.device), places] += 1 - share
        return blended

    @torch.no_grad()
    def served(self, weight: float, cf_share: float) -> DenseSide:
        """Return the dense side as it is now.

        Args:
            weight: Its share in the sum with the generative side.
            cf_share: Share of the collaborative model of a bridge in it.
        """
        own = self.own.weight.new_zeros(len(self.place), self.own.embedding_dim)
        if self.projection is None and len(self.known):
            # Nothing is known of the others: they are as good as the mean item.
            own += self.own.weight.mean(0)
        own[self.known] = self.own.weight
        if self.projection is not None:
            own += self.projection(self.given)
        user = self.user
        map_ = (user.weight.detach().clone(), user.bias.detach().clone())
        return DenseSide(own, *map_, weight=weight, cf_share=cf_share)


@dataclass(frozen=True)
class DenseTerm:
    """The dense side's part of an objective.

    Attributes:
        learner: What is trained.
        weight: Weight of its loss.
        teacher_weight: Share of it that is the teacher's.
        alignment: Draws user vectors, those that score items, towards the teacher's; None for none.
        alignment_weight: Weight of that loss.
    """

    learner: DenseLearner
    weight: float
    teacher_weight: float = 0.0
    alignment: PostAlignment | None = None
    alignment_weight: float = 0.0

    @property
    def beside(self) -> dict[str, nn.Module]:
        """What is trained beside the language model, by name."""
        parts: dict[str, nn.Module] = {"dense": self.learner}
        return parts if self.alignment is None else {**parts, "alignment": self.alignment}

    def losses(
        self,
        states: Tensor,
        answers: Tensor,
        teacher: Teacher | None = None,
        batch: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the weighted losses by name.

        Args:
            states: float[P, hidden], what precedes each item.
            answers: int64[P], the items.
            teacher: Gives soft targets and user vectors, for streams.
            batch: int64[B, width], the whole batch that the teacher reads, its P real items in the
                order of the states.
        """
        if teacher is None or batch is None:
            return {"dense": self.weight * self.learner.loss(states, answers, None, 0.0)}
        soft = teacher.probabilities(batch) if self.teacher_weight else None
        loss = self.learner.loss(states, answers, soft, self.teacher_weight)
        found = {"dense": self.weight * loss}
        if self.alignment is not None:
            frozen, users = teacher.states(batch)
            own = self.learner.user(states.to(self.learner.user.weight.dtype))
            found["alignment"] = self.alignment_weight * self.alignment(own, frozen, users)
        return found
