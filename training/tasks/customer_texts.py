"""What customers look for and what they like, in words: by template, or from a language model."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol

import numpy as np

from genrec.model.templates import Templates, fill
from genrec.training.tasks.item_texts import ItemTexts
from genrec.training.tasks.text_writer import TextWriter

Preference = Literal["overall", "recent"]
# Items of a history that count as recent.
RECENT = 3
# Facets that a preference names, and facets and title words that an intention names at most.
_MOST_LIKED = 3
_MOST_WANTED = 2
# Letters of a title word that may mean something by itself.
_SHORTEST_WORD = 4


class CustomerTexts(Protocol):
    """Gives the texts that no dataset holds; an empty one where nothing is known."""

    def intention(self, item: int, generator: np.random.Generator) -> str:
        """Say what a customer may look for who wants this item, by what is known of it."""
        ...

    def preference(
        self, history: Sequence[int], kind: Preference, generator: np.random.Generator
    ) -> str:
        """Say what a customer with this history likes, overall or of late."""
        ...


class TemplateTexts:
    """Texts from the values and titles of items; implements ``CustomerTexts``.

    Args:
        items: What is known of the items.
        templates: Ways to put it.
    """

    def __init__(self, items: ItemTexts, templates: Templates) -> None:
        self._items = items
        self._texts = templates.texts

    def intention(self, item: int, generator: np.random.Generator) -> str:
        """Name up to two values and two words of the title, never the whole title."""
        words = _words(self._items.titles[item])
        facets = _some(self._items.facets[item], _MOST_WANTED, generator)
        others = [word for word in words if word not in facets]
        fields = {
            "facets": ", ".join(facets),
            "words": " ".join(_some(others, min(_MOST_WANTED, len(words) - 1), generator)),
        }
        return self._said("intention", fields, generator)

    def preference(
        self, history: Sequence[int], kind: Preference, generator: np.random.Generator
    ) -> str:
        """Name the values that most items of the history share; the newest of equals first.

        Where the items have no values, the words of their titles stand for them.
        """
        rows = history[-RECENT:] if kind == "recent" else history
        counts = Counter(value for row in reversed(rows) for value in self._items.facets[row])
        if not counts:
            counts = Counter(
                word
                for row in reversed(rows)
                for word in _words(self._items.titles[row])
                if len(word) >= _SHORTEST_WORD
            )
        liked = ", ".join(value for value, _ in counts.most_common(_MOST_LIKED))
        return self._said(kind, {"facets": liked}, generator)

    def _said(self, name: str, fields: Mapping[str, str], generator: np.random.Generator) -> str:
        """Put fields into one of the texts that they can fill."""
        known = {field for field, value in fields.items() if value}
        usable = [
            text
            for text in self._texts[name]
            if all(f"{{{field}}}" not in text or field in known for field in fields)
        ]
        if not usable:
            return ""
        text = usable[int(generator.integers(len(usable)))]
        return "".join(str(piece) for piece in fill(text, fields, {}))


class WrittenTexts:
    """Texts that a language model wrote beforehand; implements ``CustomerTexts``.

    All that will be asked for is written in one go, so that the writer need not stay in memory.

    Args:
        items: What is known of the items.
        templates: What the writer is asked.
        writer: Writes the texts.
        wanted: Items whose intentions will be asked for.
        histories: Histories whose preferences will be asked for.
    """

    def __init__(
        self,
        items: ItemTexts,
        templates: Templates,
        writer: TextWriter,
        wanted: Iterable[int],
        histories: Iterable[Sequence[int]],
    ) -> None:
        self._items = items
        self._asked = templates.writer
        prompts = [self._about_item(row) for row in wanted]
        for history in histories:
            prompts += [
                self._about_history(history, "overall"),
                self._about_history(history, "recent"),
            ]
        prompts = [prompt for prompt in dict.fromkeys(prompts) if prompt]
        texts = map(items.short, writer.write(prompts))
        self._texts = {"": ""} | dict(zip(prompts, texts, strict=True))

    def intention(self, item: int, generator: np.random.Generator) -> str:
        """Return what was written of an item."""
        return self._texts[self._about_item(item)]

    def preference(
        self, history: Sequence[int], kind: Preference, generator: np.random.Generator
    ) -> str:
        """Return what was written of a history."""
        return self._texts[self._about_history(history, kind)]

    def _about_item(self, row: int) -> str:
        """Return the question about an item; empty where nothing is known of it."""
        return self._put(
            "intention",
            {
                "title": self._items.titles[row],
                "description": self._items.descriptions[row],
                "facets": ", ".join(self._items.facets[row]),
            },
        )

    def _about_history(self, history: Sequence[int], kind: Preference) -> str:
        """Return the question about a history; empty where none of its items has a title."""
        rows = history[-RECENT:] if kind == "recent" else history
        titles = [self._items.titles[row] for row in rows if self._items.titles[row]]
        return self._put(kind, {"titles": "; ".join(titles)})

    def _put(self, name: str, fields: Mapping[str, str]) -> str:
        if not any(fields.values()):
            return ""
        return "".join(str(piece) for piece in fill(self._asked[name], fields, {}))


def _some(values: Sequence[str], most: int, generator: np.random.Generator) -> list[str]:
    """Return one to ``most`` values drawn at random, in their old order."""
    most = min(most, len(values))
    if most < 1:
        return []
    count = int(generator.integers(1, most + 1))
    places = np.sort(generator.choice(len(values), count, replace=False))
    return [values[place] for place in places]


def _words(title: str) -> list[str]:
    """Return the words of a title without the marks around them."""
    words = (word.strip("()[],.;:!?\"'") for word in title.split())
    return [word for word in words if word]
