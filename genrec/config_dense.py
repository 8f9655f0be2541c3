"""The section of the recipe on the dense side of a model."""

from typing import Literal

from genrec.config_section import Section, setting


class DenseConfig(Section):
    """The dense side: a user vector that scores all items, beside the codes."""

    weight: float = setting(
        0.0, "Weight of its loss beside that of the codes; 0 trains no dense side.", ge=0
    )
    dimensions: int = setting(64, "Width of user and item vectors.", "dimensions", ge=1)
    vectors: Literal["text", "cf", "joint"] | None = setting(
        "text",
        "What an item's vector is made from besides what is learned of the item itself: vectors of "
        "texts, of the cf model, or joint ones (see train.bridge.vectors). An item without "
        "training events has nothing else.",
    )
    vector_directions: int | None = setting(
        None,
        "Principal directions of these vectors that are read, all equally loud (whitened), which "
        "makes what tells apart items of a kind as audible as their kind; null reads the vectors "
        "as they are, centred.",
        "directions",
        ge=1,
    )
    teacher_weight: float = setting(
        0.0,
        "stream: share of its loss taken from SASRec's distribution over next items.",
        "fraction",
        ge=0,
        le=1,
    )
    cf: bool | Literal["blend"] = setting(
        False,
        "The cf model is asked as well and has a share in what vectors say; with train.bridge.user "
        "it always is. blend asks it together with item neighbours (see cf.models).",
    )
    calibration_users: int | None = setting(
        None,
        "Validation users on whom the shares of both sides are chosen once training is over; null "
        "takes as many as train.validation_users.",
        "users",
        ge=1,
    )
    calibration_beam: int = setting(
        50, "Width of their search; that of serving is best.", "beams", ge=1
    )
    alignment_weight: float = setting(
        0.0,
        "stream: weight of the loss that draws the user vector, which scores items, towards that "
        "of SASRec (Molar).",
        ge=0,
    )
    alignment_temperature: float = setting(0.07, "What its cosines are divided by.", gt=0)

    @property
    def taught(self) -> bool:
        """Whether SASRec has a part in its training."""
        return bool(self.weight and (self.teacher_weight or self.alignment_weight))

    @property
    def asks_cf(self) -> bool:
        """Whether the cf model goes into the model folder to be asked for its scores."""
        return bool(self.weight and self.cf)

    @property
    def asks_neighbours(self) -> bool:
        """Whether item neighbours are asked together with the cf model."""
        return bool(self.weight and self.cf == "blend")

    @property
    def folders_read(self) -> tuple[str, ...]:
        """The folders that the dense side is trained from."""
        if not self.weight:
            return ()
        taught = {"cf"} if self.taught or self.asks_cf else set()
        return tuple(sorted(taught | ({self.vectors} if self.vectors else set())))
