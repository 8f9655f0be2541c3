"""The memory estimate against what torch keeps for the gradients."""

import pytest
import torch

from genrec.model.language_model import encoder_decoder_from_scratch, from_scratch
from genrec.training.memory import estimate


def kept_bytes(model, tokens):
    """Bytes of all tensors kept for the gradients, each storage once, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            # Held, so that no later tensor gets the same place.
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        if model.config.is_encoder_decoder:
            model(input_ids=tokens, decoder_input_ids=tokens)
        else:
            model.base_model(input_ids=tokens, use_cache=False)
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
@pytest.mark.parametrize("width", [16, 128])
def test_activations_are_within_a_factor_of_two(small_index, kind, width):
    sizes = {"hidden": 64, "layers": 3, "heads": 4, "feed_forward": 192}
    if kind == "decoder":
        model = from_scratch(small_index, **sizes, max_tokens=256)[0]
        model.set_attn_implementation("eager")
    else:
        model = encoder_decoder_from_scratch(small_index, **sizes, dropout=0.1)[0]
    model.train()
    found = kept_bytes(model, torch.ones(8, width, dtype=torch.int64))
    guess = estimate(
        model, batch_tokens=8 * width, width=width, logits=0, checkpointing=False, value_bytes=4
    )
    assert 0.5 < guess.activations / found < 2


def test_weights_and_optimizer_by_hand(small_index):
    model = from_scratch(small_index, hidden=16, layers=1, heads=2, feed_forward=32, max_tokens=64)[
        0
    ].to(torch.bfloat16)
    model.requires_grad_(False)
    rows = model.get_input_embeddings().weight.requires_grad_()
    found = estimate(
        model, batch_tokens=100, width=10, logits=1000, checkpointing=True, value_bytes=2
    )
    assert found.weights == 2 * model.num_parameters()
    # Gradient, two moments and the running average, four bytes each.
    assert found.optimiser == 16 * rows.numel()
    assert found.logits == 12 * 1000
    block = 9 * 16 + 4 * 32 + 2.5 * 2 * 10
    assert found.activations == 100 * 2 * (16 + block)
    assert str(found).startswith("about 0 MiB (weights 0 MiB")
