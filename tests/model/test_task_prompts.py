"""What the model reads, token by token, for a tokenizer with one token a letter."""

import numpy as np
import pytest

from genrec.errors import ConfigError
from genrec.model.prompts import Prompts
from genrec.model.template_file import load_templates
from tests.model.words import letter_tokenizer, letters
from tests.training.tasks.world import codes, item_index, task_prompts

START, END = 1, 2


def templates(tmp_path, text):
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="utf-8")
    return load_templates(path)


@pytest.fixture
def short(tmp_path):
    """Templates short enough to write out."""
    return templates(
        tmp_path,
        """
separators: {history: "+", titles: "/"}
tasks:
  next_item: [{prompt: "a{history}b"}]
  item_to_text:
    - {prompt: "T{item}", answer: "{title}"}
    - {prompt: "D{item}", answer: "{description}"}
    - {prompt: "{item}", answer: "{title}: {description}"}
  titles_to_item: [{prompt: "{titles}>"}]
  search: [{prompt: "{history}?{intention}"}, {prompt: "?{intention}"}]
""",
    )


def test_codes_and_words_of_a_prompt_and_its_answer(short):
    prompts = task_prompts(short)
    example = prompts.example("next_item", {"history": [3, 7], "item": 9})
    want = [START, *letters("a"), *codes(3), *letters("+"), *codes(7), *letters("b"), *codes(9)]
    assert example.tokens.tolist() == want
    assert (example.answer, example.dropped) == (len(want) - 2, 0)
    example = prompts.example("titles_to_item", {"titles": ["x", "yz"], "item": 0})
    assert example.tokens.tolist() == [START, *letters("x/yz>"), *codes(0)]


def test_texts_end_with_the_end_token_and_codes_do_not(short):
    prompts = task_prompts(short)
    example = prompts.example("item_to_text", {"item": 5, "title": "cup", "description": ""})
    want = [START, *letters("T"), *codes(5), *letters("cup"), END]
    assert example.tokens.tolist() == want
    assert example.answer == 4
    example = prompts.example("stream", {"items": [5, 0]})
    assert example.tokens.tolist() == [START, *codes(5), *codes(0)]
    assert example.answer == 1


def test_a_template_is_drawn_from_those_that_can_be_filled(short):
    prompts = task_prompts(short)
    both = {"item": 5, "title": "c", "description": "d"}
    answers = set()
    for seed in range(30):
        drawn = prompts.example("item_to_text", both, np.random.default_rng(seed))
        answers.add(tuple(drawn.tokens[drawn.answer :]))
    assert answers == {(*letters(text), END) for text in ("c", "d", "c: d")}
    untitled = {"item": 5, "title": "", "description": "d"}
    assert prompts.example("item_to_text", untitled).tokens.tolist() == [
        START, *letters("D"), *codes(5), *letters("d"), END,
    ]  # fmt: skip
    assert prompts.example("item_to_text", {"item": 5, "title": "", "description": ""}) is None


def test_the_first_prompt_that_fits_is_the_one_of_serving(short):
    prompts = task_prompts(short)
    with_history = prompts.prompt("search", {"intention": "hot", "history": [2]}, room=2)
    assert with_history.tolist() == [START, *codes(2), *letters("?hot")]
    without = prompts.prompt("search", {"intention": "hot", "history": []}, room=2)
    assert without.tolist() == [START, *letters("?hot")]
    assert prompts.prompt("search", {"intention": "", "history": [2]}, room=2) is None


def test_next_item_is_what_histories_are_served_with():
    """The prompts of the folder and those of the task are one, with a frame and without."""
    framed = load_templates()
    index = item_index()
    prompts = task_prompts(framed)
    tokenizer = letter_tokenizer()
    served = Prompts.build("instruction", 20, tokenizer, templates=framed)
    assert served.before == Prompts.build("instruction", 20, tokenizer).before
    assert served.after == Prompts.build("instruction", 20, tokenizer).after
    table = np.asarray([codes(row) for row in range(len(index))])
    history = np.asarray([4, 1, 8], dtype=np.int32)
    [tokens] = served.encode([history], table)
    example = prompts.example("next_item", {"history": [4, 1, 8], "item": 2})
    assert example.tokens[: example.answer].tolist() == tokens.tolist()
    assert Prompts.from_dict(served.to_dict()) == served


def test_a_frame_stands_around_every_prompt_that_is_served(tmp_path):
    framed = templates(
        tmp_path,
        'frame: {preamble: "P{", instruction: "I", response: "R"}\n'
        'separators: {history: "{}"}\ntasks: {next_item: [{prompt: "{{{history}z"}]}\n',
    )
    served = Prompts.build("instruction", 20, letter_tokenizer(), templates=framed)
    assert list(served.before) == [START, *letters("P{I{")]
    assert list(served.between) == letters("{}")
    assert list(served.after) == letters("zR")


def test_the_oldest_items_are_left_out_until_a_prompt_fits(short):
    fields = {"history": list(range(10)), "item": 11}
    # Start, a, b, the answer of two, three items of two codes and the two marks between them.
    prompts = task_prompts(short, max_tokens=1 + 2 + 2 + 3 * 2 + 2)
    example = prompts.example("next_item", fields)
    want = task_prompts(short).example("next_item", {"history": [7, 8, 9], "item": 11})
    assert example.tokens.tolist() == want.tokens.tolist()
    assert example.dropped == 7
    assert len(prompts.prompt("next_item", fields, room=2)) == len(want.tokens) - 2
    stream = task_prompts(short, max_tokens=8).example("stream", {"items": [1, 2, 3, 4, 5]})
    assert stream.tokens.tolist() == [START, *codes(3), *codes(4), *codes(5)]
    assert stream.dropped == 2


def test_what_cannot_be_shortened_is_no_example(short):
    prompts = task_prompts(short, max_tokens=10)
    fields = {"item": 1, "title": "x" * 20, "description": ""}
    assert prompts.example("item_to_text", fields) is None
    assert prompts.prompt("search", {"intention": "x" * 20, "history": [1, 2]}, room=2) is None
    assert task_prompts(short, max_tokens=2).example("stream", {"items": [1, 2]}) is None


def test_texts_of_others_hold_words_only(short):
    """Codes and special tokens in a title or a request must not be read as such."""
    prompts = task_prompts(short)
    text = "a<a_1>b<end>c"
    example = prompts.example("item_to_text", {"item": 5, "title": text, "description": ""})
    assert example.tokens[example.answer :].tolist() == [*letters("a b c"), END]
    asked = prompts.prompt("titles_to_item", {"titles": [text]}, room=2)
    assert asked.tolist() == [START, *letters("a b c>")]


def test_a_model_that_cannot_end_a_text_is_refused(short):
    from genrec.model.task_prompts import TaskPrompts

    tokenizer = letter_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="no eos token"):
        TaskPrompts(short, tokenizer, np.zeros((1, 2), dtype=np.int64))


def test_prompts_read_as_many_items_as_the_model_has_room_for():
    prompts = Prompts.build("instruction", 20, letter_tokenizer())
    rest = len(prompts.before) + len(prompts.after) + 3
    assert prompts.within(3, None) is prompts
    assert prompts.within(3, rest + 20 * 5) is prompts
    assert prompts.within(3, rest + 20 * 5 - 1).max_history == 19
    assert prompts.within(3, rest + 5).max_history == 1
    with pytest.raises(ConfigError, match="tokens at most"):
        prompts.within(3, rest + 4)
