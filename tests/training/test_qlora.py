"""Tuning on quantised weights, and a merge that keeps what was trained."""

import importlib.util

import pytest
import torch

from genrec.decoding.ranker import GenerativeRanker
from genrec.errors import DependencyError
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import load_pretrained
from genrec.model.quantization import is_quantized
from genrec.semantic_ids.vocabulary import SidVocabulary
from genrec.training import train
from genrec.training.lora import add_lora, merge
from tests.training.world import RUNTIME, make_run, recipe, tiny_language_model

INSTALLED = importlib.util.find_spec("bitsandbytes") is not None
needs_bitsandbytes = pytest.mark.skipif(
    not INSTALLED, reason="bitsandbytes is not installed; see the extra qlora"
)


@pytest.mark.skipif(INSTALLED, reason="bitsandbytes is installed")
def test_without_bitsandbytes_the_error_says_what_to_install(tmp_path, small_index):
    source = tiny_language_model(tmp_path / "lm", small_index)
    with pytest.raises(DependencyError, match=r'pip install "genrec\[qlora\]"'):
        load_pretrained(str(source), revision=None, dtype=torch.float32, quantize="nf4")


@needs_bitsandbytes
@pytest.mark.parametrize("quantize", ["nf4", "int8"])
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj"]])
def test_merged_weights_are_the_quantised_ones_and_the_adapter(
    tmp_path, small_index, quantize, targets
):
    source = tiny_language_model(tmp_path / "lm", small_index)
    model, _ = load_pretrained(str(source), revision=None, dtype=torch.float32, quantize=quantize)
    plain, _ = load_pretrained(str(source), revision=None, dtype=torch.float32)
    assert is_quantized(model) and not is_quantized(plain)
    vocabulary = SidVocabulary((3, 2), 30)
    wrapped = add_lora(model, vocabulary, rank=2, alpha=4, dropout=0.0, targets=targets)
    optimizer = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=0.05)
    tokens = torch.randint(0, 35, (4, 6), generator=torch.Generator().manual_seed(1))
    for _ in range(5):
        wrapped(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    wrapped.eval()
    with torch.no_grad():
        wrapped(input_ids=tokens)
    # Being read for validation must not cut the way of the gradients.
    wrapped.train()(input_ids=tokens, labels=tokens).loss.backward()
    assert all(p.grad.any() for p in wrapped.parameters() if p.requires_grad)
    wrapped.eval()
    with torch.no_grad():
        want = wrapped(input_ids=tokens).logits
        merged = merge(wrapped)
        got = merged(input_ids=tokens).logits
        untrained = plain(input_ids=tokens).logits
    assert not is_quantized(merged)
    assert {type(layer) for layer in merged.modules() if "Linear" in type(layer).__name__} == {
        torch.nn.Linear
    }
    # int8 rounds what it reads as well, which a plain layer does not.
    away = {"nf4": 1e-4, "int8": 0.05}[quantize] * (want - untrained).abs().max()
    assert (got - want).abs().max() < away
    merged.save_pretrained(tmp_path / "merged")
    again, _ = load_pretrained_folder(tmp_path / "merged", source)
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=tokens).logits, got)


def load_pretrained_folder(folder, source):
    """Load a saved model with the tokenizer of another folder."""
    for path in source.glob("tokenizer*"):
        (folder / path.name).write_bytes(path.read_bytes())
    return load_pretrained(str(folder), revision=None, dtype=torch.float32)


@needs_bitsandbytes
@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_the_train_stage_on_a_quantised_model(tmp_path, cycle_dataset, small_index, quantize):
    run = make_run(tmp_path / "run", cycle_dataset, small_index)
    source = tiny_language_model(tmp_path / "lm", small_index)
    settings = recipe(
        language_model=str(source), epochs=3, evaluations=2, lora={"quantize": quantize}
    )
    model = GenerativeModel.load(train.run(run, settings, RUNTIME), device=torch.device("cpu"))
    assert not is_quantized(model.language_model)
    assert model.facts["parameters"] > model.language_model.num_parameters() > 2000
    histories = [cycle_dataset.sequences()[0]]
    assert len(GenerativeRanker(model, beam=10).rank(histories, 10)[0].items) == 10
