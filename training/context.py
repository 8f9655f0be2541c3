"""Histories longer than a language model reads: what had to be left out of them."""

import logging

import numpy as np
from numpy.typing import NDArray

from genrec.data.dataset import Dataset
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import context_length

logger = logging.getLogger(__name__)


def dropped_items(lengths: NDArray[np.integer], fitting: int, wished: int) -> tuple[int, int]:
    """Count what is left out of histories when fewer of their newest items are read than wished.

    Args:
        lengths: int64[n], items of each history.
        fitting: Newest items that are read.
        wished: Newest items that a recipe wants to be read.

    Returns:
        The users who lose items, and these items.
    """
    dropped = np.maximum(np.minimum(lengths, wished) - fitting, 0)
    return int((dropped > 0).sum()), int(dropped.sum())


def note_cut_histories(model: GenerativeModel, wished: int, dataset: Dataset) -> None:
    """Count and log the users and items that a model's context leaves out, and note them in it.

    Args:
        model: The model about to be trained, with the prompts that it will read.
        wished: Newest items of a history that the recipe wants to be read.
        dataset: Its training part is counted.
    """
    fitting = model.prompts.max_history
    if fitting >= wished:
        return
    users, items = dropped_items(dataset.sequences().lengths, fitting, wished)
    cut = {
        "context_tokens": context_length(model.language_model),
        "context_max_history": fitting,
        "context_users_cut": users,
        "context_items_dropped": items,
    }
    model.facts.update(cut)
    logger.warning(
        "the language model reads %d tokens, so only the newest %d items of a history in place of "
        "train.max_history %d: %d users are cut, and their %d oldest items are dropped.",
        cut["context_tokens"],
        fitting,
        wished,
        users,
        items,
    )
