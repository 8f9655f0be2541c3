"""The sections of the recipe on low-rank adapters, wherever a pretrained model is tuned."""

from typing import Literal

from genrec.config_section import Section, setting


class AdapterConfig(Section):
    """Low-rank adapters on a pretrained language model."""

    rank: int = setting(16, "Rank of the adapters.", "dimensions", ge=1)
    alpha: int = setting(32, "Scale of the adapters, divided by the rank.", ge=1)
    dropout: float = setting(0.05, "Dropout on adapter inputs.", "probability", ge=0, lt=1)
    targets: list[str] | Literal["all-linear"] = setting(
        "all-linear", "Names of the layers that get adapters."
    )


class LoraConfig(AdapterConfig):
    """Low-rank adapters on a language model that learns codes."""

    quantize: Literal["nf4", "int8"] | None = setting(
        None,
        "Keep the frozen layers in four (nf4) or eight bits while training (QLoRA); needs "
        "genrec[qlora].",
    )
