"""The recipe's section on learning from rewards after the training."""

from genrec.config_section import Section, setting


class ReinforcementConfig(Section):
    """Learning from rewards, after the training on events (group relative policy optimisation)."""

    steps: int = setting(0, "Batches of histories to learn from; 0 leaves it out.", "batches", ge=0)
    histories: int = setting(
        64, "Histories in a batch; lower it when memory runs out.", "histories", ge=1
    )
    group: int = setting(16, "Items that beam search names for a history.", "items", ge=2)
    inner_steps: int = setting(2, "Optimizer steps on a batch.", "steps", ge=1)
    learning_rate: float = setting(1e-4, "Peak step size of AdamW.", gt=0)
    kl_weight: float = setting(
        0.1, "What it costs to move away from the model as it was trained on events.", ge=0
    )
    clip: float = setting(
        0.2, "Change of a code's probability within a batch that is still rewarded.", gt=0, lt=1
    )
    hint_codes: int = setting(
        0,
        "Most codes of the true item that are given away where no item of a group is the true one.",
        "codes",
        ge=0,
    )
    exclude_seen: bool = setting(True, "As recommend.exclude_seen, for the items of a group.")
    evaluations: int = setting(5, "Validations while it learns.", "times", ge=1)
    patience: int = setting(
        10,
        "Stop with an error after so many batches in a row whose groups have equal rewards only.",
        "batches",
        ge=1,
    )
