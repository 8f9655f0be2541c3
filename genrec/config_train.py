"""The section of the recipe on the language model and how it learns."""

from typing import Annotated, Literal

from pydantic import Field

from genrec.config_bridge import BridgeConfig, QuestionConfig
from genrec.config_dense import DenseConfig
from genrec.config_lora import LoraConfig
from genrec.config_reinforcement import ReinforcementConfig
from genrec.config_section import Section, setting
from genrec.config_tasks import CurriculumPhase, TaskShare, TaskTextsConfig


class ScratchConfig(Section):
    """A small language model trained whole, for machines without a pretrained one."""

    architecture: Literal["decoder", "encoder_decoder"] = setting(
        "decoder",
        "decoder: Llama, with a loss on every item of a history; encoder_decoder: T5 as in TIGER, "
        "with a loss on the last one.",
    )
    hidden: int = setting(128, "Width.", "dimensions", ge=8)
    layers: int = setting(4, "Transformer blocks.", "blocks", ge=1)
    heads: int = setting(4, "Attention heads.", "heads", ge=1)
    feed_forward: int = setting(512, "Width of the feed-forward layers.", "dimensions", ge=8)
    dropout: float = setting(
        0.2, "Dropout on embeddings, attention and feed-forward.", "probability", ge=0, lt=1
    )


class TrainConfig(Section):
    """Stage train: the language model learns the codes."""

    language_model: str | None = setting(
        None,
        "smollm2, a local folder or a hub id of a causal LM; null trains a small one from scratch.",
    )
    revision: str | None = setting(None, "Pinned hub revision.")
    form: Literal["stream", "instruction"] = setting(
        "stream",
        "stream: a history is one sequence of codes with a loss on every item; "
        "instruction: a prompt with the history, loss on the next item only. With tasks it says "
        "which of stream and next_item is validated, kept and served.",
    )
    tasks: list[TaskShare] = setting(
        [], "Tasks a pretrained model is tuned on together; none leaves it to form alone."
    )
    curriculum: list[CurriculumPhase] = setting(
        [], "Phases with some of the tasks only, in order, before the whole mixture."
    )
    templates: str | None = setting(
        None, "YAML file with prompt templates of your own; null takes those of genrec."
    )
    text_writer: str | None = setting(
        None,
        "smollm2, a local folder or a hub id of a causal LM that writes intentions and "
        "preferences; null makes them from item columns and titles.",
    )
    task_texts: TaskTextsConfig = setting(
        TaskTextsConfig(), "Titles, descriptions, intentions and preferences."
    )
    task_examples: int = setting(
        200, "Validation examples of each task, drawn by seed.", "examples", ge=1
    )
    new_rows: Literal["titles", "mean", "normal", "convex", "codebook", "cw2v"] = setting(
        "titles",
        "How the rows of new codes start in a pretrained model: titles points to the words of the "
        "code's items; mean is the mean of all words with a little noise; normal is drawn close "
        "around it with the words' covariance; convex is a weighted mean of the words of the "
        "code's items; codebook maps the code's vector in the index to these words; "
        "cw2v trains the weights of convex by skip-gram on training histories and titles.",
    )
    lora: LoraConfig = setting(LoraConfig(), "Adapters, when a language model is named.")
    scratch: ScratchConfig = setting(ScratchConfig(), "The small model, when none is named.")
    dense: DenseConfig = setting(DenseConfig(), "A user vector that scores all items.")
    bridge: BridgeConfig = setting(BridgeConfig(), "Vectors read beside the codes (A-LLMRec).")
    question: QuestionConfig = setting(
        QuestionConfig(), "Words of the question of train.bridge.candidates."
    )
    epochs: float = setting(20, "Most passes over the training users.", "epochs", gt=0)
    max_steps: Annotated[int, Field(ge=1)] | Literal[-1] = setting(
        -1, "Most optimizer steps; -1 leaves it to epochs.", "steps"
    )
    learning_rate: float = setting(2e-3, "Peak step size of AdamW.", gt=0)
    row_learning_rate: float | None = setting(
        None,
        "Peak step size for the new code rows of a pretrained model; null takes the same.",
        gt=0,
    )
    weight_decay: float = setting(0.01, "Weight decay of AdamW.", ge=0)
    warmup: float = setting(0.05, "Share of steps with a rising step size.", "fraction", ge=0, lt=1)
    batch_tokens: int = setting(8192, "Tokens in a batch, padding included.", "tokens", ge=1)
    batches_per_step: int = setting(
        1,
        "Batches whose mean gradient makes one optimizer step; several processes share them, and "
        "what is left of the plan for a last step is not trained.",
        "batches",
        ge=1,
    )
    max_history: int = setting(20, "Newest items of a user that are read.", "items", ge=1)
    crop_probability: float = setting(
        0.5, "Chance that a training history is cut to a random stretch.", "probability", ge=0, le=1
    )
    item_dropout: float = setting(
        0.1,
        "Chance that an item of a training history is left out of what the model reads.",
        "probability",
        ge=0,
        lt=1,
    )
    average_decay: float = setting(
        0.99,
        "Share of the running average of the weights that is kept at each step; the average "
        "is what is validated and kept.",
        "fraction",
        ge=0,
        lt=1,
    )
    label_smoothing: float = setting(
        0.0,
        "Share of the target spread over all choices: a level's codes, or all words with tasks and "
        "instructions.",
        "fraction",
        ge=0,
        lt=1,
    )
    teacher_weight: float = setting(
        0.0,
        "stream: share of the loss taken from SASRec's distribution over next items; 0 learns from "
        "the events alone.",
        "fraction",
        ge=0,
        le=1,
    )
    distillation_weight: float = setting(
        0.0,
        "stream: weight of the loss that teaches the state after an item the vector its codes were "
        "made from (PRORec); 0 is off.",
        ge=0,
    )
    distillation_temperature: float = setting(0.07, "What its cosines are divided by.", gt=0)
    teacher: Literal["sasrec", "transition_sasrec"] = setting(
        "sasrec", "Which SASRec is the teacher; a transition_sasrec must be named by cf.models."
    )
    evaluations: int = setting(20, "Validations during training.", "times", ge=1)
    validation_users: int = setting(2000, "Users validated on, drawn by seed.", "users", ge=1)
    patience: int = setting(
        4, "Stop after so many validations without a better NDCG@10.", "times", ge=1
    )
    gradient_checkpointing: bool = setting(False, "Trade time for memory.")
    report_to: list[str] = setting([], "Experiment trackers known to transformers.")
    reinforcement: ReinforcementConfig = setting(
        ReinforcementConfig(), "Learning from rewards afterwards; off unless it has steps."
    )

    @property
    def folders_read(self) -> tuple[str, ...]:
        """The folders that are read besides dataset and index: some of cf, joint and text."""
        taught = {"cf"} if self.teacher_weight or self.dense.taught else set()
        return tuple(sorted({*taught, *self.bridge.folders_read, *self.dense.folders_read}))
