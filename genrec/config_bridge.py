"""The sections of the recipe that join a collaborative model and a language model (A-LLMRec)."""

from typing import Literal

from genrec.config_section import Section, setting


class AlignConfig(Section):
    """Stage align: one joint vector an item from cf and text; run when train.bridge reads it."""

    dimensions: int = setting(128, "Width of the joint vectors.", "dimensions", ge=1)
    match: float = setting(1.0, "Weight of the loss that matches cf and text codes.", ge=0)
    item_reconstruction: float = setting(
        0.5, "Weight of the loss that gives cf vectors back from their codes.", ge=0
    )
    text_reconstruction: float = setting(
        0.2, "Weight of the loss that gives text vectors back from their codes.", ge=0
    )
    recommendation: float = setting(
        1.0, "Weight of the loss that tells a user's last training item from a random one.", ge=0
    )
    epochs: int = setting(20, "Passes over the training users.", "epochs", ge=1)
    batch: int = setting(128, "Users in a batch.", "users", ge=1)
    learning_rate: float = setting(1e-3, "Step size of Adam.", gt=0)


class QuestionConfig(Section):
    """The words of the question which of some titles comes next; say what your users do."""

    before_user: str = setting("This customer: ", "Before the user's soft token.")
    before_history: str = setting(
        "\nThey chose, oldest first: ", "Before the titles of the history."
    )
    before_candidates: str = setting(
        "\nThey choose one of these next: ", "Before the titles to choose from."
    )
    after: str = setting("\nIt is: ", "Before the answer.")
    between: str = setting("; ", "Between two titles.")


class BridgeConfig(Section):
    """Soft tokens: vectors of items and users that the language model reads beside the codes."""

    items: bool = setting(False, "Each item of a history comes with its vector.")
    user: bool = setting(False, "The user's vector, from the cf model, comes with the history.")
    vectors: Literal["joint", "cf", "text", "dense"] = setting(
        "joint",
        "Vectors of items: joint is what the align stage writes, where an item without training "
        "events enters by its text; cf and text are those stages' own; dense are the vectors of "
        "the dense side, learned in the same training, so that what scores items is also read.",
    )
    frozen: bool = setting(
        False,
        "A pretrained language model gets no adapters: only projections and the rows of codes "
        "learn.",
    )

    candidates: float = setting(
        0.0,
        "instruction: share of the loss that is the paper's question, which of some titles comes "
        "next; 1 asks nothing else, and the checkpoint that answers it best is kept.",
        "fraction",
        ge=0,
        le=1,
    )
    candidate_items: int = setting(20, "Titles to choose from.", "items", ge=2)

    @property
    def used(self) -> bool:
        """Whether there are soft tokens."""
        return self.items or self.user

    @property
    def folders_read(self) -> tuple[str, ...]:
        """The folders that the soft tokens are made from: ``joint``, ``cf``, ``text`` or none."""
        items = {self.vectors} if self.items and self.vectors != "dense" else set()
        read = items | ({"cf"} if self.user else set())
        return tuple(sorted(read))
