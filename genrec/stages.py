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
        lower: What to do when memory runs out, without a full stop.
        optional: Whether a whole run leaves it out when no other stage of the recipe reads it.
    """

    verb: str
    folder: str
    entry: str
    reads: tuple[str, ...]
    section: str
    help: str
    lower: str
    optional: bool = False


STAGES: tuple[Stage, ...] = (
    Stage(
        "data",
        "dataset",
        "genrec.data.prepare:run",
        (),
        "data",
        "Read, check, filter and split the interactions and the catalogue.",
        "Raise data.core, which leaves out rare users and items, or give fewer events",
    ),
    Stage(
        "cf",
        "cf",
        "genrec.cf.fit:run",
        ("dataset",),
        "cf",
        "Fit popularity, transition counts and SASRec; write item and user vectors.",
        "Lower cf.batch_items, then cf.max_history or cf.dimensions; name fewer cf.models",
    ),
    Stage(
        "embed",
        "text",
        "genrec.embeddings.text:run",
        ("dataset",),
        "embed",
        "Turn item texts into one vector per item.",
        "Lower embed.batch_size; with embed.method tfidf lower embed.dimensions",
    ),
    Stage(
        "align",
        "joint",
        "genrec.cf.align:run",
        ("dataset", "cf", "text"),
        "align",
        "Learn one vector an item from cf and text vectors (A-LLMRec).",
        "Lower align.batch, then align.dimensions",
        optional=True,
    ),
    Stage(
        "image",
        "image",
        "genrec.embeddings.image:run",
        ("dataset",),
        "image",
        "Turn item images into one vector per item.",
        "Lower image.batch_size, then image.max_pixels",
        optional=True,
    ),
    Stage(
        "index",
        "index",
        "genrec.tokenization.build:run",
        ("dataset", "cf", "text", "image"),
        "index",
        "Learn the semantic ID of every item.",
        "Lower index.rq_vae.batch_size, index.codes_per_level or the width of the vectors it reads",
    ),
    Stage(
        "train",
        "model",
        "genrec.training.train:run",
        ("dataset", "index", "cf", "text", "joint"),
        "train",
        "Teach a language model the IDs.",
        "Lower train.batch_tokens, then train.max_history; set train.gradient_checkpointing: true, "
        "or take a smaller train.language_model or train.scratch",
    ),
    Stage(
        "items",
        "item_model",
        "genrec.training.item_model:run",
        ("dataset", "image"),
        "item_model",
        "Tune a language model to read an item's text and image into one vector.",
        "Lower item_model.batch_size, then item_model.max_tokens, or take a smaller language model",
        optional=True,
    ),
    Stage(
        "molar",
        "molar",
        "genrec.training.molar:run",
        ("dataset", "cf", "text", "image", "item_model"),
        "molar",
        "Teach a language model to read item vectors into a user vector.",
        "Lower molar.batch_items, then molar.max_history, or take a smaller language model",
        optional=True,
    ),
    Stage(
        "recommend",
        "predictions",
        "genrec.serving.export:run",
        ("dataset", "cf", "model", "molar"),
        "recommend",
        "Write ranked items for the users of the test part, for every model.",
        "Lower recommend.batch_size, then recommend.beam",
    ),
    Stage(
        "evaluate",
        "report",
        "genrec.evaluation.report:run",
        ("dataset", "predictions"),
        "evaluate",
        "Measure the predictions; write tables and a plot.",
        "Lower recommend.k, which makes the lists shorter, or recommend.users",
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
