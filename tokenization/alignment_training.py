"""Text and cf vectors of the items learned together with the next item of every user.

Stage 1 of PRORec (Xiao et al., arXiv 2502.06269): the loss of the sequential recommender, here
SASRec instead of the paper's DIN, plus a weight times the contrastive loss between its item
vectors E_C and the adapted text vectors E_T. The training itself is that of the cf stage.

The sources read give neither weight nor temperature. A temperature as low as is usual for such
losses (0.07) pushes items with like texts apart, and codes made of the vectors group them less;
one near 0.5 does not. Starting from the cf stage's SASRec rather than anew is quicker by far and
keeps more of what users do in the vectors.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec.cf.epoch_training import Epoch, Schedule
from genrec.cf.sasrec import SasRec
from genrec.cf.sasrec_training import train
from genrec.cf.training_checkpoint import Checkpoint
from genrec.data.histories import Histories, from_lists
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ConfigError, DataError
from genrec.tokenization.alignment import ModalityAdaption, contrastive_loss
from genrec.tokenization.sinkhorn import one_thread

# Items that a step tells from each other, drawn anew for each.
ITEMS_PER_STEP = 1024


@dataclass(frozen=True)
class Alignment:
    """What joint training gave.

    Attributes:
        cf: E_C float32[n, d], SASRec's item vectors, learned on.
        adaption: Gives E_T to a text vector, seen before or not.
        log: One entry an epoch; the loss is that of the next item alone.
    """

    cf: NDArray[np.float32]
    adaption: ModalityAdaption
    log: list[Epoch]


class AlignedSasRec(SasRec):
    """SASRec whose training steps also carry the contrastive loss.

    Args:
        start: The trained SASRec to go on from.
        text: float32[n, dt], text vectors, each of length 1 or zero.
        rows: int64[p], items that have both a text and an event; only these are aligned.
        temperature: Of the contrastive loss.
        weight: Of the contrastive loss beside the next-item loss.
    """

    text: Tensor
    rows: Tensor

    def __init__(
        self, start: SasRec, text: Tensor, rows: Tensor, *, temperature: float, weight: float
    ) -> None:
        settings: dict[str, Any] = start.settings
        super().__init__(**settings)
        self.load_state_dict(start.state_dict())
        self.adaption = ModalityAdaption(text.shape[1], self.item_vectors.embedding_dim)
        # Not learned and not part of a checkpoint; they only follow the network to its device.
        self.register_buffer("text", text, persistent=False)
        self.register_buffer("rows", rows, persistent=False)
        self.temperature = temperature
        self.weight = weight

    def contrastive_loss(self) -> Tensor:
        """Return what a step adds, from items drawn at random, rare and popular ones alike."""
        drawn = torch.randperm(len(self.rows))[:ITEMS_PER_STEP].to(self.rows.device)
        items = self.rows[drawn]
        adapted = self.adaption(self.text[items])
        loss = contrastive_loss(self.item_vectors(items), adapted, self.temperature)
        return self.weight * loss


def align(
    start: SasRec,
    text: EmbeddingTable,
    sequences: Histories,
    schedule: Schedule,
    *,
    temperature: float,
    weight: float,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
    checkpoint: Checkpoint | None = None,
    quiet: bool = True,
) -> Alignment:
    """Train SASRec on, together with a layer that brings text vectors to its item vectors.

    Items without a text or without an event take no part in the contrastive loss: there is
    nothing of one side to agree with. The last epoch is kept: how well the next item is predicted
    says little of how far text and cf vectors agree, so no validation chooses another. torch runs
    on one thread, so the result does not depend on their number.

    Args:
        start: The cf stage's network; it is left as it is.
        text: One vector an item.
        sequences: Training items per user, oldest first.
        schedule: How long and how fast; patience plays no part.
        temperature: Of the contrastive loss.
        weight: Of the contrastive loss beside the next-item loss.
        device: Where to compute.
        precision: Number type of the scores of all items that SASRec learns from.
        checkpoint: Where to save after each epoch and to go on from.
        quiet: No progress bar.

    Raises:
        DataError: When text and network differ in items, or no item has both a text and an event.
        ConfigError: When the loss is no longer finite.
    """
    if len(text) != start.items:
        raise DataError(
            f"there are {len(text)} text vectors for the {start.items} items of SASRec; "
            "run the stages cf and embed again."
        )
    both = text.vectors.any(axis=1) & (np.bincount(sequences.items, minlength=start.items) > 0)
    if not both.any():
        raise DataError(
            "no item has both a text vector and a training event, so there is nothing to align; "
            "set index.vectors: cf."
        )
    unit = torch.from_numpy(text.normalised())
    rows = torch.from_numpy(np.flatnonzero(both))

    def build() -> AlignedSasRec:
        return AlignedSasRec(start, unit, rows, temperature=temperature, weight=weight)

    try:
        with one_thread():
            network, log = train(
                sequences, from_lists([]), schedule, build,
                extra_loss=AlignedSasRec.contrastive_loss,
                device=device, precision=precision, checkpoint=checkpoint, quiet=quiet,
            )  # fmt: skip
    except ConfigError as error:
        raise ConfigError(_too_fast(schedule)) from error
    cf = network.item_vectors.weight[: start.items].detach().cpu().numpy().copy()
    adaption = network.adaption.requires_grad_(False).cpu().eval()
    if not all(np.isfinite(values).all() for values in (cf, *adaption.arrays().values())):
        raise ConfigError(_too_fast(schedule))
    return Alignment(cf, adaption, log)


def _too_fast(schedule: Schedule) -> str:
    return (
        "the loss of aligning text and cf vectors is no longer finite; lower "
        f"index.alignment.learning_rate (now {schedule.learning_rate})."
    )
