"""Texts are written once, whatever stops the writing, and only by what is named."""

import json

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from genrec.errors import ConfigError, DependencyError
from genrec.model.template_file import load_templates
from genrec.runtime import Runtime
from genrec.training.tasks.customer_texts import WrittenTexts
from genrec.training.tasks.item_texts import ItemTexts
from genrec.training.tasks.text_writer import CachedWriter, TransformersWriter
from tests.model.words import letter_model, letter_tokenizer
from tests.training.tasks.world import catalog

RUNTIME = Runtime(device="cpu", dtype="float32", threads=1, quiet=True)


class Echo:
    """Answers with the prompt in capitals; stops after so many prompts."""

    def __init__(self, most=10**6):
        self.asked = []
        self._most = most

    def write(self, prompts):
        if len(self.asked) + len(prompts) > self._most:
            raise KeyboardInterrupt
        self.asked += prompts
        return [prompt.upper() for prompt in prompts]


def test_what_is_on_file_is_not_written_again(tmp_path):
    path, first, second = tmp_path / "texts.jsonl", Echo(), Echo()
    writer = CachedWriter("echo", lambda: first, path)
    assert writer.write(["a", "b", "a"]) == ["A", "B", "A"]
    assert first.asked == ["a", "b"]
    assert CachedWriter("echo", lambda: second, path).write(["b", "c", "ü"]) == ["B", "C", "Ü"]
    assert second.asked == ["c", "ü"]
    assert CachedWriter("echo", pytest.fail, path).write(["ü", "a"]) == ["Ü", "A"]
    other = Echo()
    CachedWriter("another", lambda: other, path).write(["a"])
    assert other.asked == ["a"]


def test_a_writing_that_was_stopped_goes_on(tmp_path, caplog):
    path, prompts = tmp_path / "texts.jsonl", [str(number) for number in range(10)]
    with pytest.raises(KeyboardInterrupt):
        CachedWriter("echo", lambda: Echo(most=6), path, block=3).write(prompts)
    with path.open("a") as file:
        file.write('{"key": "cut o')
    again = Echo()
    assert CachedWriter("echo", lambda: again, path, block=3).write(prompts) == prompts
    assert again.asked == prompts[6:]
    assert "middle of a text" in caplog.text
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 10


def test_a_damaged_line_is_named_and_written_anew(tmp_path, caplog):
    path = tmp_path / "texts.jsonl"
    CachedWriter("echo", Echo, path).write(["a", "b"])
    first, second = path.read_text().splitlines()
    path.write_text(f"{first[:-5]}\n{second}\n")
    again = Echo()
    assert CachedWriter("echo", lambda: again, path).write(["a", "b"]) == ["A", "B"]
    assert again.asked == ["a"]
    assert "line 1 cannot be read" in caplog.text


def test_everything_that_will_be_asked_for_is_written_in_one_go():
    echo = Echo()
    items = ItemTexts(catalog(), most_words=40)
    texts = WrittenTexts(items, load_templates(), echo, [3, 5], [[1, 2, 3, 4]])
    assert len(echo.asked) == 4
    said = texts.intention(3, np.random.default_rng(0))
    assert "BEL TEA 3" in said
    assert "GOOD TEA" in said
    overall, recent = (
        texts.preference([1, 2, 3, 4], kind, np.random.default_rng(0))
        for kind in ("overall", "recent")
    )
    assert "BEL POT 1; ORA CUP 2; BEL TEA 3; ORA POT 4" in overall
    assert "BEL POT 1" not in recent
    assert "ORA CUP 2; BEL TEA 3; ORA POT 4" in recent


def test_a_local_model_writes_greedily_and_as_one_line(tmp_path):
    """Each text is what the model itself would say next, letter by letter."""
    folder = letter_model(tmp_path / "lm")
    prompts = ["abc", "what is longer?"]
    written = TransformersWriter(str(folder), runtime=RUNTIME, most_tokens=5).write(prompts)
    model, tokenizer = LlamaForCausalLM.from_pretrained(folder), letter_tokenizer()
    for prompt, text in zip(prompts, written, strict=True):
        tokens = [1, *tokenizer.encode(prompt + "\n", add_special_tokens=False)]
        for _ in range(5):
            with torch.no_grad():
                tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
            if tokens[-1] == 2:
                break
        said = tokenizer.decode(tokens[-5:], skip_special_tokens=True)
        assert text.replace(" ", "") == "".join(said.split())
        assert len(text) > 1


def test_a_writer_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DependencyError, match="train.text_writer"):
        TransformersWriter(str(tmp_path), runtime=RUNTIME)


def test_a_prompt_longer_than_the_writer_reads_is_refused(tmp_path):
    folder = letter_model(tmp_path / "lm", context=20)
    writer = TransformersWriter(str(folder), runtime=RUNTIME, most_tokens=5)
    with pytest.raises(ConfigError, match="has 18 tokens and its answer up to 5, but .* reads 20"):
        writer.write(["16 letters long."])
