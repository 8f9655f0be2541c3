"""Requests in words: exhaustive scoring of every item gives the same lists."""

import numpy as np
import pytest
import torch

from genrec.decoding.ranker import GenerativeRanker
from genrec.decoding.rules import RowRules
from genrec.decoding.text_ranker import TextRanker
from genrec.errors import RequestError
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import add_codes, load_pretrained
from genrec.model.prompts import Prompts
from genrec.model.template_file import load_templates
from tests.model.words import letter_model, letters
from tests.training.tasks.world import ITEMS, catalog, codes, item_index

CPU = torch.device("cpu")


def make(folder, tasks=("next_item", "search", "titles_to_item"), context=512):
    letter_model(folder, context=context)
    language_model, tokenizer = load_pretrained(str(folder), revision=None, dtype=torch.float32)
    for parameter in language_model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    index = item_index()
    vocabulary = add_codes(language_model, tokenizer, index, catalog().titles, seed=0)
    templates = load_templates().only(tasks) if tasks else None
    prompts = Prompts.build("instruction", 5, tokenizer, templates=templates)
    counts = np.ones(ITEMS, dtype=np.int64)
    facts = {"score": "exact"}
    return GenerativeModel(
        language_model.eval(), tokenizer, vocabulary, index, prompts, catalog(), counts, facts
    )


def exhaustive(model, prompt):
    """Score every item by one forward pass each; return rows, best first, and their scores."""
    scores = []
    for row in range(ITEMS):
        tokens = torch.tensor([[*prompt, *codes(row)]])
        with torch.no_grad():
            chances = model.language_model(tokens).logits[0].log_softmax(-1)
        first, second = codes(row)
        scores.append(float(chances[-3, first] + chances[-2, second]))
    order = np.argsort(scores)[::-1]
    return order.tolist(), np.asarray(scores)[order].tolist()


def agrees(model, ranking, prompt):
    rows, scores = exhaustive(model, prompt)
    assert ranking.items.tolist() == rows[: len(ranking.items)]
    assert ranking.scores.tolist() == pytest.approx(scores[: len(ranking.items)], rel=1e-4)


def test_search_reads_the_first_template_that_fits(tmp_path):
    model = make(tmp_path)
    ranker = TextRanker(GenerativeRanker(model, beam=ITEMS))
    history = np.asarray([9, 8, 7, 6, 5, 4, 3], dtype=np.int32)
    alone, known = ranker.search(
        [" hot tea ", "a pot"], 12, histories=[np.zeros(0, dtype=np.int32), history]
    )
    agrees(model, alone, [1, *letters("A customer looks for: hot tea\nItem: ")])
    # The five newest items, as many as the model reads.
    read = codes(7)
    for row in (6, 5, 4, 3):
        read += [*letters(", "), *codes(row)]
    text = "\nNow this customer looks for: a pot\nItem: "
    before = letters("A customer chose these items, oldest first: ")
    agrees(model, known, [1, *before, *read, *letters(text)])
    [again] = ranker.search(["hot tea"], 12)
    assert again.items.tolist() == alone.items.tolist()


def test_titles_need_not_be_of_the_catalogue(tmp_path):
    model = make(tmp_path)
    ranker = TextRanker(GenerativeRanker(model, beam=ITEMS))
    [ranking] = ranker.after_titles([["A spoon", "Ora cup 2"]], 5)
    text = (
        "A customer chose these items, oldest first: A spoon; Ora cup 2\n"
        "The item this customer chooses next: "
    )
    agrees(model, ranking, [1, *letters(text)])


def test_rules_hold_for_words_as_well(tmp_path):
    model = make(tmp_path)
    ranker = TextRanker(GenerativeRanker(model, beam=ITEMS))
    barred = np.asarray([0, 1, 2, 3, 4, 5], dtype=np.int32)
    rules = [RowRules(excluded=barred)] * 3
    for ranking in ranker.search(["tea", "pot", "cup"], ITEMS, rules=rules):
        assert sorted(ranking.items.tolist()) == list(range(6, ITEMS))


def test_the_folder_keeps_what_requests_are_written_with(tmp_path):
    from genrec import artifacts

    model = make(tmp_path / "lm")
    with artifacts.writing(tmp_path / "model", "model") as partial:
        model.save(partial)
    loaded = GenerativeModel.load(tmp_path / "model", device=CPU)
    assert loaded.prompts == model.prompts
    want, got = (
        TextRanker(GenerativeRanker(each, beam=ITEMS)).search(["tea"], 12)[0]
        for each in (model, loaded)
    )
    assert got.items.tolist() == want.items.tolist()


def test_requests_that_cannot_be_answered(tmp_path):
    ranker = TextRanker(GenerativeRanker(make(tmp_path, ("next_item", "search"), context=128)))
    with pytest.raises(RequestError, match="request 1 .* empty or longer than the 128 tokens"):
        ranker.search(["tea", "  "])
    with pytest.raises(RequestError, match="request 0"):
        ranker.search(["x" * 200])
    with pytest.raises(RequestError, match="on titles_to_item, only on next_item, search"):
        ranker.after_titles([["x"]])
    with pytest.raises(RequestError, match="2 texts and 1 histories"):
        ranker.search(["a", "b"], histories=[np.zeros(0, dtype=np.int32)])
    with pytest.raises(RequestError, match="k must be at least 1"):
        ranker.search(["a"], 0)
    with pytest.raises(RequestError, match="answers no words"):
        TextRanker(GenerativeRanker(make(tmp_path, ())))
