"""The token that a decoder reads before the first code."""

from typing import Any

from genrec.errors import ArtifactError


def decoder_start_token(model: Any) -> int:  # noqa: ANN401 - any encoder-decoder of transformers
    """Return the token id that comes before the first code.

    Raises:
        ArtifactError: When the model does not say which token that is.
    """
    for config in (model.config, model.generation_config):
        token = getattr(config, "decoder_start_token_id", None)
        if token is not None:
            return int(token)
    raise ArtifactError(
        f"the encoder-decoder model ({model.config.model_type}) has no decoder_start_token_id; set "
        "it in its config.json (T5 has the padding token, 0)."
    )
