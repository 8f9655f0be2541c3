"""What Molar's item-side model is tuned on: three kinds of examples made of the catalogue.

Image to text (IT), structured attributes to text (SA) and user behaviour (UB) of Molar (Luo et al.,
arXiv 2412.18176, which gives about 10,000 examples of each and no wording; the words are ours). In
all three the mark stands between what is read and what is to be said, so its state has to hold
what the answer is made of.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import Catalog
from genrec.data.histories import Histories
from genrec.data.item_table import USUAL_TEXT, clean_text
from genrec.errors import ConfigError
from genrec.model.item_reader import Picture, Piece
from genrec.model.picture_tokens import PictureTokens

Task = Literal["image_text", "attributes", "next_item"]
# Columns that hold a description, the first that is there.
DESCRIPTIONS = ("description", "overview")
COMPRESS = "\nThe item in one word:"
DESCRIBE = "\nThe description of the item:"
NEXT = "\nThe next item of this person:"


@dataclass(frozen=True)
class ItemExample:
    """One example: words and pictures to read, and the words to say after the mark."""

    task: Task
    given: tuple[Piece, ...]
    answer: str


@dataclass(frozen=True)
class ItemWords:
    """What is known of each catalogue row in words; empty where nothing is.

    Attributes:
        titles: Titles.
        attributes: Such as ``brand: Acme``, one a line.
        descriptions: What the first two tasks shall say.
        texts: What an embedding reads.
    """

    titles: list[str]
    attributes: list[str]
    descriptions: list[str]
    texts: list[str]

    @classmethod
    def of(cls, catalog: Catalog, description: str | None = None) -> "ItemWords":
        """Read the columns of a catalogue.

        Args:
            catalog: The items.
            description: Column to describe items by; None takes ``description`` or ``overview``,
                else the item's text.

        Raises:
            ConfigError: When there is no such column.
        """
        table = catalog.table
        if description is not None and description not in table.columns:
            raise ConfigError(
                f"item_model.description is {description!r}, but the items have the columns "
                f"{', '.join(table.columns)}."
            )
        column = description or next(
            (name for name in DESCRIPTIONS if name in table.columns), "text"
        )
        named = [
            name
            for name in USUAL_TEXT
            if name in table.columns and name not in ("title", column, *DESCRIPTIONS)
        ]
        values = {name: clean_text(table[name]).to_list() for name in named}
        attributes = [
            "\n".join(f"{name}: {values[name][row]}" for name in named if values[name][row])
            for row in range(len(catalog))
        ]
        descriptions = clean_text(table[column]).to_list()
        return cls(catalog.title_words, attributes, descriptions, catalog.texts)


def item_pieces(row: int, texts: ItemWords, pictures: PictureTokens) -> tuple[Piece, ...]:
    """Return what is read to get the vector of an item; empty when nothing is known of it."""
    words = texts.texts[row].strip() or texts.attributes[row]
    seen: tuple[Piece, ...] = (Picture(row),) if row in pictures else ()
    if not words and not seen:
        return ()
    # The title stands first and on its own, so that a long text is cut and not the title.
    return (*seen, *_title(row, texts), f"\n{words}", COMPRESS)


def _title(row: int, texts: ItemWords) -> tuple[Piece, ...]:
    return (f"Title: {texts.titles[row]}",) if texts.titles[row] else ()


def examples_of(
    task: Task,
    texts: ItemWords,
    pictures: PictureTokens,
    sequences: Histories,
    *,
    most: int,
    max_history: int,
    seed: int,
) -> list[ItemExample]:
    """Make the examples of a task, at most so many, drawn by seed.

    Args:
        task: Which one.
        texts: Words of the items.
        pictures: Pictures of the items.
        sequences: Training items per user, oldest first.
        most: Examples wanted.
        max_history: next_item: newest items that are read.
        seed: Draws which items and users.
    """
    generator = np.random.default_rng([seed, ("image_text", "attributes", "next_item").index(task)])
    if task == "next_item":
        return _next_items(texts, pictures, sequences, most, max_history, generator)
    rows = [
        row
        for row, description in enumerate(texts.descriptions)
        if description and (row in pictures if task == "image_text" else _tells_more(texts, row))
    ]
    chosen = [rows[place] for place in generator.permutation(len(rows))[:most]]
    return [_description(task, row, texts) for row in chosen]


def _tells_more(texts: ItemWords, row: int) -> bool:
    """Tell whether a description has a word that is not in title and attributes: one to learn.

    Without a column of descriptions an item's text stands in, which is often made of these.
    """
    given = f"{texts.titles[row]} {texts.attributes[row]}"
    return bool(texts.titles[row]) and not _words(texts.descriptions[row]) <= _words(given)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _description(task: Task, row: int, texts: ItemWords) -> ItemExample:
    given: tuple[Piece, ...] = (*_title(row, texts), f"\n{texts.attributes[row]}", DESCRIBE)
    if task == "image_text":
        # Without the title, which often tells the description better than the picture does.
        given = (Picture(row), DESCRIBE)
    return ItemExample(task, given, f" {texts.descriptions[row]}")


def _next_items(
    texts: ItemWords,
    pictures: PictureTokens,
    sequences: Histories,
    most: int,
    max_history: int,
    generator: np.random.Generator,
) -> list[ItemExample]:
    """Draw users, then for each an item with a title that is not the first."""
    titled = np.asarray([bool(title) for title in texts.titles])
    ends = [1 + np.flatnonzero(titled[sequences[user][1:]]) for user in range(len(sequences))]
    users = [user for user, own in enumerate(ends) if len(own)]
    examples: list[ItemExample] = []
    while users and len(examples) < most:
        # Once through all users before anyone comes again.
        for place in generator.permutation(len(users))[: most - len(examples)]:
            sequence = sequences[users[place]]
            own = ends[users[place]]
            end = int(own[generator.integers(len(own))])
            history = sequence[max(0, end - max_history) : end]
            given = _history(history, texts, pictures)
            examples.append(ItemExample("next_item", given, f" {texts.titles[sequence[end]]}"))
        # No more examples than there are different ones.
        if len(examples) >= sum(map(len, ends)):
            break
    return examples


def _history(
    history: Sequence[int] | NDArray[np.int32], texts: ItemWords, pictures: PictureTokens
) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    for row in (int(item) for item in history):
        if texts.titles[row]:
            pieces.append(f"Item: {texts.titles[row]}\n")
        if row in pictures:
            pieces.append(Picture(row))
    return (*pieces, NEXT)
