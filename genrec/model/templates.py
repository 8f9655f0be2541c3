"""Prompt templates as data: what is written around histories, items and texts for each task."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from string import Formatter
from typing import Any

# What a placeholder stands for: a text, a catalogue row, or a list of either, oldest first.
Value = str | int | Sequence[str] | Sequence[int]
Fields = Mapping[str, Value]
# Texts stay texts and catalogue rows become their codes.
Piece = str | int


@dataclass(frozen=True)
class Slots:
    """The placeholders that templates of one kind may use.

    Attributes:
        prompt: Those of the prompt.
        answer: Those of the answer.
        needed: Those every prompt must have; where there are none, one of ``prompt`` is enough.
    """

    prompt: tuple[str, ...]
    answer: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()


SLOTS: dict[str, Slots] = {
    "next_item": Slots(("history",), ("item",)),
    "text_to_item": Slots(("title", "description"), ("item",)),
    "item_to_text": Slots(("item",), ("title", "description")),
    "history_to_title": Slots(("history",), ("title",)),
    "history_to_description": Slots(("history",), ("description",)),
    "titles_to_item": Slots(("titles",), ("item",)),
    "titles_to_title": Slots(("titles",), ("title",)),
    "search": Slots(("intention", "history"), ("item",), ("intention",)),
    "preference": Slots(("history",), ("overall", "recent")),
}
TEXT_SLOTS: dict[str, Slots] = {
    "intention": Slots(("facets", "words")),
    "overall": Slots(("facets",)),
    "recent": Slots(("facets",)),
}
WRITER_SLOTS: dict[str, Slots] = {
    "intention": Slots(("title", "description", "facets")),
    "overall": Slots(("titles",)),
    "recent": Slots(("titles",)),
}


@dataclass(frozen=True)
class Template:
    """One way to put a task into words: the prompt and the answer, with ``{placeholders}``."""

    prompt: str
    answer: str

    @cached_property
    def asked(self) -> frozenset[str]:
        """Placeholders of the prompt."""
        return frozenset(placeholders(self.prompt))

    @cached_property
    def answered(self) -> frozenset[str]:
        """Placeholders of the answer."""
        return frozenset(placeholders(self.answer))


# A history written as a stream of codes has no words, so it has no place in a template file.
STREAM = "stream"
STREAM_TEMPLATE = Template(prompt="", answer="{items}")


@dataclass(frozen=True)
class Frame:
    """What stands around every prompt: preamble, mark of the instruction, mark of the answer."""

    preamble: str = ""
    instruction: str = ""
    response: str = ""

    def around(self, prompt: str) -> str:
        """Return a prompt, placeholders still in it, with the frame around it."""
        marks = (self.preamble, self.instruction, self.response)
        before, mark, after = (text.replace("{", "{{").replace("}", "}}") for text in marks)
        return f"{before}{mark}{prompt}{after}"


@dataclass(frozen=True)
class Templates:
    """All templates of a model; kept in its folder.

    Attributes:
        tasks: Templates of each task, in the order of the file.
        frame: What stands around prompts.
        separators: What joins the parts of a list, by placeholder.
        texts: Ways to put intentions and preferences into words.
        writer: What a language model is asked that writes them.
    """

    tasks: Mapping[str, tuple[Template, ...]]
    frame: Frame
    separators: Mapping[str, str]
    texts: Mapping[str, tuple[str, ...]]
    writer: Mapping[str, str]

    def of(self, task: str) -> tuple[Template, ...]:
        """Return the templates of a task with the frame around their prompts."""
        if task == STREAM:
            return (STREAM_TEMPLATE,)
        return tuple(
            Template(self.frame.around(template.prompt), template.answer)
            for template in self.tasks[task]
        )

    def only(self, tasks: Collection[str]) -> "Templates":
        """Return the templates without those of other tasks."""
        return replace(
            self, tasks={name: kept for name, kept in self.tasks.items() if name in tasks}
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> "Templates":
        """Read what ``to_dict`` gave."""
        return cls(
            tasks={
                name: tuple(Template(**template) for template in listed)
                for name, listed in body["tasks"].items()
            },
            frame=Frame(**body["frame"]),
            separators=dict(body["separators"]),
            texts={name: tuple(listed) for name, listed in body["texts"].items()},
            writer=dict(body["writer"]),
        )


def placeholders(text: str) -> list[str]:
    """Return the placeholders of a template in their order; ``ValueError`` when braces are odd."""
    return [name for _, name, _, _ in Formatter().parse(text) if name is not None]


def fill(text: str, fields: Fields, separators: Mapping[str, str]) -> tuple[Piece, ...]:
    """Put the fields of an example into one side of a template.

    Texts side by side become one piece, so that they are read as one text.

    Args:
        text: Prompt or answer of a template.
        fields: What its placeholders stand for.
        separators: What joins the entries of a list, by placeholder; nothing by default.

    Example:
        >>> fill("After {history}: ", {"history": [4, 7]}, {"history": ", "})
        ('After ', 4, ', ', 7, ': ')
        >>> fill("{titles}?", {"titles": ["Tea", "Pot"]}, {"titles": "; "})
        ('Tea; Pot?',)
    """
    pieces: list[Piece] = []
    for literal, name, _, _ in Formatter().parse(text):
        _add(pieces, literal)
        if name is None:
            continue
        value = fields[name]
        entries = [value] if isinstance(value, str | int) else value
        for place, entry in enumerate(entries):
            _add(pieces, separators.get(name, "") if place else "")
            _add(pieces, entry)
    return tuple(pieces)


def _add(pieces: list[Piece], piece: Piece) -> None:
    if isinstance(piece, int):
        pieces.append(piece)
    elif piece and pieces and isinstance(pieces[-1], str):
        pieces[-1] += piece
    elif piece:
        pieces.append(piece)
