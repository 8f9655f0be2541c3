"""The tasks by name: small functions from a history and an item to what a prompt and its answer
hold.

The six families are those of LC-Rec (Zheng et al., "Adapting Large Language Models by Integrating
Collaborative Semantics for Recommendation", ICDE 2024, arXiv 2311.09049): histories to items, texts
to items and back, their fused forms, search, and preferences. ``titles_to_title`` is one of
MiniOneRec (Kong et al., 2025, arXiv 2510.24431). ``stream`` is a history as one sequence of codes,
with a loss on each. The words around all this are data, see ``genrec.model.templates``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from genrec.model.templates import STREAM, Fields
from genrec.training.tasks.customer_texts import CustomerTexts
from genrec.training.tasks.item_texts import ItemTexts


@dataclass(frozen=True)
class Material:
    """What tasks take their texts from.

    Attributes:
        items: Words about the items.
        customers: Intentions and preferences.
    """

    items: ItemTexts
    customers: CustomerTexts


# History, oldest first; the item after it, or the one it is about; and a source of chance. Both are
# catalogue rows. Fields that are empty cannot be used; the templates that need them are left out.
MakeFields = Callable[[Material, Sequence[int], int, np.random.Generator], Fields]


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        fields: Makes what the placeholders of its templates stand for.
        reads: What an example is made from: ``next`` a stretch of a user's items, the last of
            which is to be named; ``whole`` all of a user's items, with none to be named; ``item``
            one item.
        names_item: Whether the answer is the next item, so that lists can be measured.
    """

    fields: MakeFields
    reads: Literal["next", "whole", "item"]
    names_item: bool = False


def _next_item(
    material: Material, history: Sequence[int], item: int, generator: np.random.Generator
) -> Fields:
    return {"history": history, "item": item}


def _item_and_text(
    material: Material, history: Sequence[int], item: int, generator: np.random.Generator
) -> Fields:
    return {"item": item, **_text_of(material, item)}


def _history_to_text(
    material: Material, history: Sequence[int], item: int, generator: np.random.Generator
) -> Fields:
    return {"history": history, **_text_of(material, item)}


def _titles(
    material: Material, history: Sequence[int], item: int, generator: np.random.Generator
) -> Fields:
    titles = material.items.titles
    known = [titles[row] for row in history if titles[row]]
    return {"titles": known, "item": item, "title": titles[item]}


def _search(
    material: Material, history: Sequence[int], item: int, generator: np.random.Generator
) -> Fields:
    intention = material.customers.intention(item, generator)
    return {"intention": intention, "history": history, "item": item}


def _preference(
    material: Material, history: Sequence[int], item: int, generator: np.random.Generator
) -> Fields:
    return {
        "history": history,
        "overall": material.customers.preference(history, "overall", generator),
        "recent": material.customers.preference(history, "recent", generator),
    }


def _stream(
    material: Material, history: Sequence[int], item: int, generator: np.random.Generator
) -> Fields:
    return {"items": [*history, item]}


def _text_of(material: Material, item: int) -> dict[str, str]:
    items = material.items
    return {"title": items.titles[item], "description": items.descriptions[item]}


TASKS: dict[str, Task] = {
    "next_item": Task(_next_item, "next", names_item=True),
    "text_to_item": Task(_item_and_text, "item"),
    "item_to_text": Task(_item_and_text, "item"),
    "history_to_title": Task(_history_to_text, "next"),
    "history_to_description": Task(_history_to_text, "next"),
    "titles_to_item": Task(_titles, "next", names_item=True),
    "titles_to_title": Task(_titles, "next"),
    "search": Task(_search, "next", names_item=True),
    "preference": Task(_preference, "whole"),
    STREAM: Task(_stream, "next"),
}
