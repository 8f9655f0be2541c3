"""The recipe of the cf stage's transition-aware SASRec."""

from genrec.config_section import Section, setting


class TransitionSasRecConfig(Section):
    """What it has beyond SASRec, whose sizes and schedule it shares, when cf.models names it."""

    query_window: int = setting(3, "Newest items whose mean is the long query.", "items", ge=1)
    long_share: float = setting(
        0.2, "Share of the long query in the attention; 0 leaves it out.", "fraction", ge=0, le=1
    )
    distillation_weight: float = setting(
        0.1,
        "Weight of the loss that teaches item vectors what follows what; 0 leaves it out.",
        ge=0,
    )
    distillation_temperature: float = setting(
        1.0, "What products of item vectors are divided by in that loss.", gt=0
    )
