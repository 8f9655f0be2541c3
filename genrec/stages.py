"""The flow as data: which verb reads which folders and writes which one.

Entry points are strings, so that nothing is imported until a verb is run and the nouns never
import the stages that use them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One step of the flow.

    Attributes:
        verb: Its name on the command line.
        folder: The folder of the run that it writes.
        entry: ``module:function`` with the signature ``run(folder, config, runtime) -> Path``.
        reads: Folders of the run that it reads; nothing else may be read.
        section: Name of its section in the recipe.
        help: One line for people.
        optional: Whether a whole run leaves it out when no other stage of the recipe reads it.
    """

    verb: str
    folder: str
    entry: str
    reads: tuple[str, ...]
    section: str
    help: str
    optional: bool = False


STAGES: tuple[Stage, ...] = (
    Stage(
        "data",
        "dataset",
        "genrec.data.prepare:run",
        (),
        "data",
        "Read, check, filter and split the interactions and the catalogue.",
    ),
    Stage(
        "cf",
        "cf",
        "genrec.cf.fit:run",
        ("dataset",),
        "cf",
        "Fit popularity, transition counts and SASRec; write item and user vectors.",
    ),
    Stage(
        "embed",
        "text",
        "genrec.embeddings.text:run",
        ("dataset",),
        "embed",
        "Turn item texts into one vector per item.",
    ),
    Stage(
        "align",
        "joint",
        "genrec.cf.align:run",
        ("dataset", "cf", "text"),
        "align",
        "Learn one vector an item from cf and text vectors (A-LLMRec).",
        optional=True,
    ),
    Stage(
        "image",
        "image",
        "genrec.embeddings.image:run",
        ("dataset",),
        "image",
        "Turn item images into one vector per item.",
        optional=True,
    ),
    Stage(
        "index",
        "index",
        "genrec.tokenization.build:run",
        ("dataset", "cf", "text", "image"),
        "index",
        "Learn the semantic ID of every item.",
    ),
    Stage(
        "train",
        "model",
        "genrec.training.train:run",
        ("dataset", "index", "cf", "text", "joint"),
        "train",
        "Teach a language model the IDs.",
    ),
    Stage(
        "items",
        "item_model",
        "genrec.training.item_model:run",
        ("dataset", "image"),
        "item_model",
        "Tune a language model to read an item's text and image into one vector.",
        optional=True,
    ),
    Stage(
        "molar",
        "molar",
        "genrec.training.molar:run",
        ("dataset", "cf", "text", "image", "item_model"),
        "molar",
        "Teach a language model to read item vectors into a user vector.",
        optional=True,
    ),
    Stage(
        "recommend",
        "predictions",
        "genrec.serving.export:run",
        ("dataset", "cf", "model", "molar"),
        "recommend",
        "Write ranked items for the users of the test part, for every model.",
    ),
    Stage(
        "evaluate",
        "report",
        "genrec.evaluation.report:run",
        ("dataset", "predictions"),
        "evaluate",
        "Measure the predictions; write tables and a plot.",
    ),
)


def stage_of(verb: str) -> Stage:
    """Return the stage with this verb; ``KeyError`` when there is none."""
    for stage in STAGES:
        if stage.verb == verb:
            return stage
    raise KeyError(verb)


def verb_of(folder: str) -> str:
    """Return the verb that writes a folder of the run; ``KeyError`` when there is none."""
    for stage in STAGES:
        if stage.folder == folder:
            return stage.verb
    raise KeyError(folder)
