"""SASRec and its transition-aware form, trained as the recipe says."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from genrec.cf.epoch_training import Epoch, Schedule, best_epoch, read_log, write_log
from genrec.cf.sasrec import SasRec
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.cf.sasrec_training import train
from genrec.cf.training_checkpoint import Checkpoint
from genrec.cf.transition import Transition
from genrec.cf.transition_distillation import TransitionDistillation
from genrec.config import CfConfig
from genrec.data.dataset import Dataset
from genrec.runtime import Runtime

logger = logging.getLogger(__name__)

SasRecName = Literal["sasrec", "transition_sasrec"]
LABELS: dict[SasRecName, str] = {
    "sasrec": "SASRec",
    "transition_sasrec": "transition-aware SASRec",
}
_LOG_FILES: dict[str, str] = {
    "sasrec": "training.json",
    "transition_sasrec": "transition_sasrec_training.json",
}


@dataclass(frozen=True)
class FittedSasRec:
    """A trained model and one entry an epoch."""

    ranker: SasRecRanker
    log: list[Epoch]

    def save(self, folder: Path) -> None:
        """Write the model, and the log beside it."""
        self.ranker.save(folder)
        write_log(self.log, folder / _LOG_FILES[self.ranker.name])

    @classmethod
    def load(cls, folder: Path, name: SasRecName, device: torch.device) -> "FittedSasRec":
        """Read what ``save`` wrote."""
        return cls(SasRecRanker.load(folder, device, name), read_log(folder / _LOG_FILES[name]))


def fit_sasrec(
    name: SasRecName,
    dataset: Dataset,
    section: CfConfig,
    runtime: Runtime,
    checkpoint: Checkpoint | None = None,
) -> FittedSasRec:
    """Train one of the two; both take sizes and schedule from the same keys.

    Args:
        name: ``sasrec`` or ``transition_sasrec``.
        dataset: Its training part is learned from; its validation part chooses the epoch.
        section: The recipe of the cf stage.
        runtime: Seed, device, number type and whether a bar is shown.
        checkpoint: Where to save after each epoch and to go on from.

    Raises:
        DataError: When there is no training event.
        ConfigError: When the loss is no longer finite.
    """
    options: dict[str, Any] = {}
    extra_loss: Callable[[SasRec], Tensor] | None = None
    if name == "transition_sasrec":
        aware = section.transition_sasrec
        options = {"query_window": aware.query_window, "long_share": aware.long_share}
        if aware.distillation_weight:
            extra_loss = TransitionDistillation.of(
                Transition.fit(dataset),
                weight=aware.distillation_weight,
                temperature=aware.distillation_temperature,
                device=runtime.torch_device(),
            )
    build = partial(
        SasRec,
        len(dataset.catalog),
        dimensions=section.dimensions,
        layers=section.layers,
        heads=section.heads,
        dropout=section.dropout,
        max_history=section.max_history,
        **options,
    )
    schedule = Schedule(
        epochs=section.epochs,
        patience=section.patience,
        batch_items=section.batch_items,
        learning_rate=section.learning_rate,
        weight_decay=section.weight_decay,
        seed=runtime.seed,
    )
    network, log = train(
        dataset.sequences(),
        dataset.histories("validation"),
        schedule,
        build,
        extra_loss=extra_loss,
        label=LABELS[name],
        device=runtime.torch_device(),
        precision=runtime.torch_dtype(),
        checkpoint=checkpoint,
        quiet=runtime.quiet,
    )
    best = log[best_epoch(log) - 1]
    logger.info(
        "%s: best of %d epochs is %d, validation NDCG@10 %s",
        LABELS[name],
        len(log),
        best.epoch,
        "unknown" if best.ndcg_at_10 is None else f"{best.ndcg_at_10:.4f}",
    )
    return FittedSasRec(SasRecRanker(network, name), log)
