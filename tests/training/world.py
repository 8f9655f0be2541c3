"""Runs and language models small enough to train in seconds."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from genrec import artifacts
from genrec.config import Recipe
from genrec.embeddings import mapped_file
from genrec.model.language_model import from_scratch
from genrec.runtime import Runtime

SCRATCH = {"hidden": 32, "layers": 2, "heads": 2, "feed_forward": 64, "dropout": 0.1}
# An encoder-decoder learns one target a history and pass, so it needs more passes.
ENCODER_DECODER: dict[str, Any] = {
    "scratch": SCRATCH | {"architecture": "encoder_decoder"},
    "epochs": 60,
    "crop_probability": 0.9,
}
RUNTIME = Runtime(device="cpu", threads=1, quiet=True)
WORDS = ["<pad>", "<start>", "<unknown>", "thing", "number", *map(str, range(30))]


def recipe(**changes):
    settings = {
        "scratch": SCRATCH,
        "epochs": 30,
        "batch_tokens": 160,
        "learning_rate": 1e-2,
        "evaluations": 3,
        "crop_probability": 0.3,
        "item_dropout": 0.05,
        "max_history": 8,
    }
    return Recipe(train={**settings, **changes})


def make_run(folder, dataset, index):
    """Write a dataset and an index, with vectors, as the stages do."""
    with artifacts.writing(folder / "dataset", "dataset") as partial:
        dataset.save(partial)
    with artifacts.writing(folder / "index", "index") as partial:
        index.save(partial)
        vectors = np.random.default_rng(1).normal(size=(len(index), 5)).astype(np.float32)
        mapped_file.write(partial / "fusion.safetensors", "vectors", vectors)
    return folder


def with_other_held_out(dataset, item=0):
    """Return a dataset with the same training events, whose held-out events all name one item.

    What is learned from the one and from the other must be the same; where it is not, held-out
    events have leaked into the training.
    """
    events = dataset.interactions
    items = np.where(dataset.part > 0, item, events.item).astype(np.int32)
    return replace(dataset, interactions=replace(events, item=items))


def save_tokenizer(folder, **special):
    """Write a tokenizer of whole words; ``special`` names its special tokens."""
    words = {word: place for place, word in enumerate(WORDS)}
    backend = Tokenizer(models.WordLevel(words, "<unknown>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unknown>", **special
    ).save_pretrained(folder)


def tiny_language_model(folder, index):
    """Write a local pretrained model: words, no codes."""
    torch.manual_seed(0)
    model, _, _ = from_scratch(index, hidden=16, layers=2, heads=2, feed_forward=32, max_tokens=128)
    save_tokenizer(folder, pad_token="<pad>", bos_token="<start>")
    model.resize_token_embeddings(len(WORDS), mean_resizing=False)
    model.save_pretrained(folder)
    return folder


def total_loss(objective, items):
    """Return what the trainer steps on: the sum of all terms of an objective."""
    return sum(objective.losses(items).values())
