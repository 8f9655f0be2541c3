"""The shape of small models that are trained from scratch."""

from transformers import LlamaConfig

from genrec.errors import ConfigError


def decoder_config(
    section: str,
    *,
    words: int,
    hidden: int,
    layers: int,
    heads: int,
    feed_forward: int,
    max_tokens: int,
    start_token: int | None = None,
    pad_token: int | None = None,
) -> LlamaConfig:
    """Return the shape of a small causal transformer (Llama).

    Args:
        section: Section of the recipe with the sizes, for errors.
        words: Rows of the embedding matrix.
        hidden: Width.
        layers: Transformer blocks.
        heads: Attention heads.
        feed_forward: Width of the feed-forward layers.
        max_tokens: Longest sequence it shall read.
        start_token: Token that sequences start with.
        pad_token: Token that fills short ones.

    Raises:
        ConfigError: When the width is not a multiple of twice the heads.
    """
    if hidden % (2 * heads):
        raise ConfigError(
            f"{section}.hidden is {hidden} and {section}.heads is {heads}; the width must be a "
            "multiple of twice the heads."
        )
    return LlamaConfig(
        vocab_size=words,
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max_tokens,
        tie_word_embeddings=True,
        pad_token_id=pad_token,
        bos_token_id=start_token,
        eos_token_id=None,
    )
