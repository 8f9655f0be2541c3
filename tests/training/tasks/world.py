"""A small shop whose texts, codes and tokens can be written out by hand."""

import numpy as np
import polars as pl

from genrec.data.catalog import Catalog
from genrec.data.dataset import Dataset
from genrec.data.interactions import Interactions
from genrec.model.task_prompts import TaskPrompts
from genrec.model.template_file import load_templates
from genrec.semantic_ids.item_index import ItemIndex
from genrec.semantic_ids.vocabulary import SidVocabulary
from genrec.training.tasks.customer_texts import TemplateTexts
from genrec.training.tasks.item_texts import ItemTexts
from genrec.training.tasks.table import Material
from tests.model.words import letter_tokenizer

ITEMS, USERS, LENGTH = 12, 30, 7
KINDS, BRANDS = ("tea", "pot", "cup"), ("Ora", "Bel")


def catalog(items=ITEMS):
    """Item i is a thing of kind i % 3 by brand i % 2; the last one has no description."""
    return Catalog(
        pl.DataFrame(
            {
                "item_id": [f"i{row}" for row in range(items)],
                "title": [f"{BRANDS[row % 2]} {KINDS[row % 3]} {row}" for row in range(items)],
                "text": ["unused"] * items,
                "description": [f"good {KINDS[row % 3]}" for row in range(items - 1)] + [""],
                "brand": [BRANDS[row % 2] for row in range(items)],
                "category": [f"shop > {KINDS[row % 3]}" for row in range(items)],
            }
        )
    )


def dataset(items=ITEMS, users=USERS):
    """Users walk through the items in a circle; the last two events are held out."""
    starts = np.random.default_rng(0).integers(0, items, users)
    walks = (starts[:, None] + np.arange(LENGTH)) % items
    events = Interactions(
        user=np.repeat(np.arange(users), LENGTH).astype(np.int32),
        item=walks.reshape(-1).astype(np.int32),
        time=np.tile(np.arange(LENGTH), users).astype(np.int64),
        weight=np.ones(users * LENGTH, dtype=np.float32),
    )
    part = np.tile([0] * (LENGTH - 2) + [1, 2], users).astype(np.int8)
    return Dataset(catalog(items), [f"u{user}" for user in range(users)], events, part, {})


def item_index(items=ITEMS):
    rows = np.arange(items)
    return ItemIndex(np.stack([rows // 4, rows % 4], 1).astype(np.int32), (items // 4, 4), {})


def codes(row, items=ITEMS):
    """The tokens of an item: 100 letters and marks come first, then items / 4 and then 4 codes."""
    return [100 + row // 4, 100 + items // 4 + row % 4]


def task_prompts(templates=None, max_tokens=None, items=ITEMS):
    tokenizer = letter_tokenizer()
    vocabulary = SidVocabulary(item_index(items).level_sizes, len(tokenizer))
    tokenizer.add_tokens(vocabulary.token_texts())
    table = vocabulary.tokens(item_index(items).codes)
    return TaskPrompts(templates or load_templates(), tokenizer, table, max_tokens)


def material(templates=None):
    items = ItemTexts(catalog())
    return Material(items, TemplateTexts(items, templates or load_templates()))
