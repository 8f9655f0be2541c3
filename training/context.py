"""Histories longer than a language model reads: what had to be left out of them."""

import logging

import numpy as np

from genrec.data.dataset import Dataset
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import context_length

logger = logging.getLogger(__name__)


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
    dropped = np.maximum(np.minimum(dataset.sequences().lengths, wished) - fitting, 0)
    cut = {
        "context_tokens": context_length(model.language_model),
        "context_max_history": fitting,
        "context_users_cut": int((dropped > 0).sum()),
        "context_items_dropped": int(dropped.sum()),
    }
    model.facts.update(cut)
    logger.warning(
        "the language model reads %d tokens, so only the newest %d items of a history in place of "
        "train.max_history %d: %d users are cut, and their %d oldest items are dropped.",
        cut["context_tokens"],
        fitting,
        wished,
        cut["context_users_cut"],
        cut["context_items_dropped"],
    )
