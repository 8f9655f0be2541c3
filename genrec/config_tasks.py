"""The parts of the recipe that say which tasks a language model is tuned on."""

from typing import Literal

from genrec.config_section import Section, setting

TaskName = Literal[
    "next_item",
    "text_to_item",
    "item_to_text",
    "history_to_title",
    "history_to_description",
    "titles_to_item",
    "titles_to_title",
    "search",
    "preference",
    "stream",
]


class TaskShare(Section):
    """One task of a mixture."""

    name: TaskName = setting(..., "Which task.")
    weight: float = setting(
        1.0, "Its sequences for every training user and pass.", "sequences", gt=0
    )


class CurriculumPhase(Section):
    """A stretch of the training before the whole mixture."""

    tasks: list[TaskName] = setting(
        ..., "Tasks of the mixture that are trained in it.", min_length=1
    )
    share: float = setting(..., "Share of all sequences.", "fraction", gt=0, lt=1)


class TaskTextsConfig(Section):
    """Texts of the tasks."""

    facet_columns: list[str] | None = setting(
        None,
        "Item columns whose values describe an item in intentions and preferences; null takes "
        "brand, category, genres and the like where they exist.",
    )
    most_words: int = setting(
        50, "Words of a title, description or written text that are read.", "words", ge=1
    )
    writer_revision: str | None = setting(None, "Pinned hub revision of train.text_writer.")
    writer_tokens: int = setting(
        40, "Most tokens of a text that train.text_writer writes.", "tokens", ge=1
    )
