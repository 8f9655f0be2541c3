"""Which encoder-decoder models can be searched, and how each is read."""

from torch import Tensor
from transformers import PreTrainedModel

from genrec.decoding import beam_rows_reader, t5_reader
from genrec.decoding.beam_rows_reader import BeamRowsReader
from genrec.decoding.language_model_scorer import Reader
from genrec.decoding.t5_reader import T5Reader
from genrec.errors import ArtifactError


def check_supported(model: PreTrainedModel) -> None:
    """Refuse encoder-decoder models that were never compared with their own forward pass.

    Raises:
        ArtifactError: When the family of the model is not one of those that are known.
    """
    known = (*t5_reader.FAMILIES, *beam_rows_reader.FAMILIES)
    if model.config.model_type not in known:
        raise ArtifactError(
            f"the language model is an encoder-decoder of type {model.config.model_type}; those "
            f"that can be searched are {', '.join(known)} and decoder-only models."
        )


def encoder_decoder_reader(model: PreTrainedModel, tokens: Tensor, real: Tensor) -> Reader:
    """Return what reads a batch of histories and their beams.

    Args:
        model: An encoder-decoder model that is supported.
        tokens: int64[B, T], what the encoder reads, padded on the right.
        real: bool[B, T], true where there is a token.
    """
    if model.config.model_type in t5_reader.FAMILIES:
        return T5Reader(model, tokens, real)
    return BeamRowsReader(model, tokens, real)
