"""Lists that a person can judge: what a user had, what came next, what each model shows."""

from collections.abc import Sequence

import numpy as np

from genrec.data.dataset import Dataset, Part
from genrec.evaluation.predictions import Predictions
from genrec.evaluation.tables import escape, markdown_table

NEWEST = 10
SHOWN = 5


def examples_markdown(
    predictions: Sequence[Predictions],
    dataset: Dataset,
    part: Part,
    *,
    users: int = 10,
    seed: int = 42,
) -> str:
    """Return a Markdown page with the lists of a few users, drawn by seed.

    Args:
        predictions: One a model, columns in this order.
        dataset: The dataset the lists were made for.
        part: The part they were made for.
        users: Number of users to show, drawn among the examples all models were asked for.
        seed: Seed of the draw.
    """
    histories = dataset.histories(part)
    common = predictions[0].examples
    for one in predictions[1:]:
        common = np.intersect1d(common, one.examples)
    drawn = np.random.default_rng(seed).permutation(np.sort(common))[:users]
    pages = [
        "# Would you show this list to a customer?",
        f"{len(drawn)} examples of part {part}, drawn with seed {seed}. The item that came next is "
        "bold where a model found it.",
    ]
    for number, example in enumerate(drawn.tolist(), start=1):
        pages += _one_example(
            number,
            example,
            predictions,
            dataset,
            histories[example].tolist(),
            int(histories.target[example]),
            int(histories.user[example]),
        )
    return "\n\n".join(pages) + "\n"


def _one_example(
    number: int,
    example: int,
    predictions: Sequence[Predictions],
    dataset: Dataset,
    history: list[int],
    target: int,
    user: int,
) -> list[str]:
    titles = dataset.catalog.titles
    newest = history[::-1][:NEWEST]
    columns = [_titles(one, example, target, titles) for one in predictions]
    rows = [
        [str(place + 1), *(column[place] if place < len(column) else "" for column in columns)]
        for place in range(SHOWN)
    ]
    had = "\n".join(f"{place}. {escape(titles[row])}" for place, row in enumerate(newest, start=1))
    return [
        f"## {number}. User {escape(dataset.user_ids[user])}",
        f"Had {len(history)} items, newest first:" if had else "Had no items before.",
        *([had] if had else []),
        f"Took next: **{escape(titles[target])}**",
        markdown_table(["place", *(escape(one.model) for one in predictions)], rows, figures=False),
        _places(predictions, example, target),
    ]


def _titles(one: Predictions, example: int, target: int, titles: Sequence[str]) -> list[str]:
    start, end = np.searchsorted(one.example, [example, example + 1])
    shown = []
    for row in one.item[start:end][:SHOWN].tolist():
        title = escape(titles[row]) if row >= 0 else "(no item)"
        shown.append(f"**{title}**" if row == target else title)
    return shown


def _places(predictions: Sequence[Predictions], example: int, target: int) -> str:
    """Say at which place each model has the item that came next."""
    words = []
    for one in predictions:
        start, end = np.searchsorted(one.example, [example, example + 1])
        place = np.flatnonzero(one.item[start:end] == target)
        words.append(f"{escape(one.model)} {place[0] + 1 if len(place) else 'not in the list'}")
    return "Place of the item that came next: " + ", ".join(words) + "."
