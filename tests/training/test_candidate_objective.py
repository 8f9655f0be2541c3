"""The question about titles: its words, its loss and its answers, against transformers' own."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from genrec.config import Recipe
from genrec.config_bridge import QuestionConfig
from genrec.data.catalog import Catalog
from genrec.data.sample import sample
from genrec.decoding.candidate_chooser import CandidateChooser, title_scores
from genrec.errors import ConfigError, RequestError
from genrec.evaluation.candidate_test import chooser_of, draw_candidates, hit_at_1
from genrec.model.candidate_question import CandidateQuestion, QuestionTexts
from genrec.model.code_head import CodeHead
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import item_token_table
from genrec.runtime import Runtime
from genrec.training import candidate_objective, train
from genrec.training.batches import IGNORED
from genrec.training.candidate_objective import HIT, CandidateObjective, with_question
from genrec.training.objectives import Objective
from tests.training.bridged_run import user_model, write_run
from tests.training.question_run import question_recipe, with_an_end
from tests.training.world import SCRATCH, total_loss

CPU = torch.device("cpu")
TEXTS = QuestionTexts(**QuestionConfig().model_dump())
RUNTIME = Runtime(device="cpu", dtype="float32", threads=1, quiet=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory, module_dataset, module_index):
    folder = tmp_path_factory.mktemp("question")
    settings = question_recipe(folder, module_index)
    with_an_end(folder)
    made = write_run(folder / "run", module_dataset, module_index)
    train.run(made, settings, RUNTIME)
    return made


@pytest.fixture(scope="module")
def model(run):
    return GenerativeModel.load(run / "model", device=CPU)


def question_of(model):
    return CandidateChooser(model).question


def test_the_prompt_is_the_papers(model):
    question, bridge, encode = question_of(model), model.bridge, model.tokenizer.encode
    [prompt] = question.prompts(
        [np.asarray([3, 4], dtype=np.int32)], [np.asarray([9, 5], dtype=np.int32)]
    )

    def words(text):
        return encode(text, add_special_tokens=False)

    def item(row):
        return [*words(f"thing number {row}"), int(bridge.soft.ids("items", np.asarray(row)))]

    states = bridge.user_states([np.asarray([3, 4], dtype=np.int32)], on_the_way=False)
    texts = TEXTS
    assert prompt.tolist() == [
        model.tokenizer.bos_token_id,
        *words(texts.before_user), bridge.soft.register("users", states[0])[0],
        *words(texts.before_history), *item(3), *words(texts.between), *item(4),
        *words(texts.before_candidates), *item(9), *words(texts.between), *item(5),
        *words(texts.after),
    ]  # fmt: skip
    assert question.answer(9).tolist() == [*words("thing number 9"), model.tokenizer.eos_token_id]


def test_scores_of_titles_are_those_of_each_alone(model):
    question = question_of(model)
    [prompt] = question.prompts([np.asarray([3], np.int32)], [np.asarray([9, 5], np.int32)])
    answers = [question.answer(9), question.answer(5)[1:], question.answer(12)[-1:]]
    found = title_scores(model.language_model, prompt, answers)
    for answer, score in zip(answers, found, strict=True):
        tokens = torch.from_numpy(np.concatenate([prompt, answer]))[None]
        with torch.no_grad():
            steps = model.language_model(input_ids=tokens).logits[0].log_softmax(-1)
        at = len(prompt) - 1 + np.arange(len(answer))
        assert score == pytest.approx(float(steps[at, answer].sum()), abs=1e-4)


def test_candidates_are_ranked_by_their_titles_and_only_they(model):
    chooser = CandidateChooser(model)
    histories = [np.asarray(rows, dtype=np.int32) for rows in ([], [3, 4])]
    candidates = [np.asarray(rows, dtype=np.int32) for rows in ([7, 2, 20], [5, 6])]
    rankings = chooser.rank(histories, candidates)
    for ranking, rows, prompt in zip(
        rankings, candidates, chooser.question.prompts(histories, candidates), strict=True
    ):
        assert sorted(ranking.items) == sorted(rows)
        alone = {
            row: title_scores(model.language_model, prompt, [chooser.question.answer(row)])[0]
            for row in rows.tolist()
        }
        assert ranking.items.tolist() == sorted(alone, key=alone.__getitem__, reverse=True)


def objective_of(model, **changes):
    table = torch.from_numpy(item_token_table(model.vocabulary, model.index))
    inner = Objective(
        model=model.language_model,
        head=CodeHead(model.language_model, model.vocabulary),
        prompts=model.prompts,
        item_tokens=table,
        pad_token=model.pad_token,
    )
    settings = {"weight": 1.0, "candidates": 4, "batch_tokens": 1000, "seed": 0}
    settings["known"] = np.flatnonzero(model.item_counts)
    return CandidateObjective(inner, question_of(model), **{**settings, **changes})


ITEMS = torch.tensor([[3, 4, 5, IGNORED], [7, IGNORED, IGNORED, IGNORED], [9, 10, 11, 12]])


def test_the_loss_is_that_of_transformers_on_the_title(model):
    objective = objective_of(model)
    tokens, targets = objective.examples(ITEMS.numpy())
    assert len(tokens) == 3
    total, count = 0.0, 0
    for row, (own, wanted) in enumerate(zip(tokens, targets, strict=True)):
        end = int((wanted != IGNORED).nonzero()[0][-1]) + 1
        read = np.append(own[:end], wanted[end - 1])
        labels = np.append([IGNORED], wanted[:end])
        last = int(ITEMS[row][ITEMS[row] != IGNORED][-1])
        answer = objective.question.answer(last)
        assert labels[labels != IGNORED].tolist() == answer.tolist()
        with torch.no_grad():
            loss = model.language_model(
                input_ids=torch.from_numpy(read)[None], labels=torch.from_numpy(labels)[None]
            ).loss
        total, count = total + float(loss) * len(answer), count + len(answer)
    with torch.no_grad():
        assert float(sum(objective.losses(ITEMS).values())) == pytest.approx(
            total / count, rel=1e-4
        )
        terms = objective_of(model, weight=0.25).losses(ITEMS)
        both = float(sum(terms.values()))
        expected = 0.75 * float(total_loss(objective.objective, ITEMS)) + 0.25 * total / count
        assert both == pytest.approx(expected, rel=1e-4)


def test_candidates_of_a_batch_are_drawn_anew_but_the_same_again(model):
    objective = objective_of(model)
    first, again = (objective.examples(ITEMS.numpy())[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = objective_of(model, seed=1).examples(ITEMS.numpy())[0]
    assert first.shape != other.shape or not np.array_equal(first, other)
    for row, generator in ((np.asarray([3, 4, 5]), np.random.default_rng(n)) for n in range(20)):
        choices = objective._choices(row.astype(np.int32), generator)
        assert len(set(choices)) == 4
        assert 5 in choices
        assert not {3, 4} & set(choices.tolist())
    few = objective_of(model, known=np.asarray([1, 3, 5, 8, 9]))
    drawn = {
        tuple(sorted(few._choices(row.astype(np.int32), np.random.default_rng(n)).tolist()))
        for n in range(9)
    }
    assert drawn == {(1, 5, 8, 9)}  # items without events are no wrong answers


def test_no_more_questions_than_fit(model):
    wide = objective_of(model).examples(ITEMS.numpy())[0]
    few = objective_of(model, batch_tokens=2 * wide.shape[1]).examples(ITEMS.numpy())[0]
    assert len(few) == 2
    assert len(objective_of(model, batch_tokens=1).examples(ITEMS.numpy())[0]) == 1


def test_the_checkpoint_is_chosen_by_the_question_and_the_folder_answers_the_same(
    run, model, module_dataset
):
    log = json.loads((run / "model" / "training.json").read_text())
    [logged] = [entry["eval_hit@1_of_candidates"] for entry in log if "eval_loss" in entry]
    assert model.facts["validation"]["hit@1_of_candidates"] == logged
    held_out = module_dataset.histories("validation")
    examples = held_out.take(sample(len(held_out), 12, RUNTIME.seed))
    candidates = draw_candidates(examples, 24, RUNTIME.seed, 4)
    assert hit_at_1(CandidateChooser(model).rank, examples, candidates) == logged


def test_of_several_checkpoints_the_question_chooses(
    tmp_path, module_dataset, module_index, monkeypatch
):
    """The lists get better and better; the second checkpoint has the best answers."""
    settings = question_recipe(tmp_path, module_index, evaluations=3)
    with_an_end(tmp_path)
    made = write_run(tmp_path / "run", module_dataset, module_index)
    lists, answers, weights = iter([0.1, 0.2, 0.3]), iter([0.1, 0.9, 0.2]), []

    def answered(model, *_):
        weights.append(model.bridge.soft.source("items").projection.enter.weight.detach().clone())
        return {HIT: next(answers)}

    monkeypatch.setattr(train, "validate", lambda *_: {"loss": 1.0, "ndcg@10": next(lists)})
    monkeypatch.setattr(train, "question_figures", answered)
    folder = train.run(made, settings, RUNTIME)
    model = GenerativeModel.load(folder, device=CPU)
    assert model.facts["validation"][HIT] == 0.9
    chosen = model.bridge.soft.source("items").projection.enter.weight
    assert [torch.equal(each, chosen) for each in weights] == [False, True, False]


def test_drawn_candidates_and_other_models_among_them(module_dataset):
    examples = module_dataset.histories("test")
    candidates = draw_candidates(examples, 24, seed=0, count=20)
    for place, rows in enumerate(candidates):
        target = examples.target[place]
        others = set(rows.tolist()) - {target}
        assert target in rows
        assert len(others) == min(19, 24 - len(set(examples[place].tolist()) | {target}))
        assert not others & set(examples[place].tolist())
    model = user_model("lightgcn", 24)
    found = chooser_of(model, 24)([examples[0]], candidates[:1])[0].items[0]
    scores = model.user_vectors([examples[0]])[0] @ model.items.T
    assert found == max(candidates[0].tolist(), key=scores.__getitem__)


def test_clear_errors(tmp_path, cycle_dataset, small_index, model):
    made = write_run(tmp_path / "run", cycle_dataset, small_index)
    asked = {"candidates": 0.5}
    for changes in (
        {"bridge": asked},
        {"form": "stream", "bridge": {"items": True, **asked}},
        {"language_model": None, "scratch": SCRATCH, "bridge": {"items": True, **asked}},
    ):
        with pytest.raises(ConfigError, match=r"train.bridge.candidates is 0.5, but the question"):
            train.run(made, question_recipe(tmp_path, small_index, **changes), RUNTIME)
    with pytest.raises(ConfigError, match="ends a text"):
        train.run(made, question_recipe(tmp_path, small_index), RUNTIME)
    del model.facts["question"]
    with pytest.raises(RequestError, match="not trained to choose"):
        CandidateChooser(model)


def test_fewer_items_are_read_where_a_model_reads_little(model):
    question = CandidateQuestion.build(model.tokenizer, model.catalog, model.bridge, TEXTS)
    assert question.within(None, 4) is question
    longest = max(map(len, question.titles))
    histories = [np.arange(12, dtype=np.int32)]
    candidates = [np.asarray([14, 15, 16, 17], dtype=np.int32)]
    for context in (65, 70, 75, 80):
        fitting = question.within(context, 4)
        [prompt] = fitting.prompts(histories, candidates)
        assert len(prompt) + longest + 1 <= context
    assert question.within(10_000, 4).max_history == question.max_history
    assert fitting.max_history < question.max_history
    with pytest.raises(ConfigError, match="lower train.bridge.candidate_items"):
        question.within(40, 4)


def test_titles_do_not_speak_the_language_of_the_codes(model):
    title = f"thing <a_1> {model.tokenizer.bos_token} number"
    table = model.catalog.table.with_columns(title=pl.lit(title))
    asked = CandidateQuestion.build(model.tokenizer, Catalog(table), model.bridge, TEXTS)
    words = model.tokenizer.encode("thing number", add_special_tokens=False)
    assert asked.titles[0].tolist() == words


def test_the_words_are_those_of_the_recipe_and_stay_in_the_folder(
    tmp_path, module_dataset, module_index
):
    settings = question_recipe(tmp_path, module_index, max_steps=1)
    with_an_end(tmp_path)
    asked = settings.train.question.model_copy(update={"before_history": "thing number "})
    settings = Recipe(train=settings.train.model_copy(update={"question": asked}))
    made = write_run(tmp_path / "run", module_dataset, module_index)
    folder = train.run(made, settings, RUNTIME)
    question = CandidateChooser(GenerativeModel.load(folder, device=CPU)).question
    assert question.texts == replace(TEXTS, before_history="thing number ")
    words = question.parts["before_history"].tolist()
    [prompt] = question.prompts([np.asarray([3], np.int32)], [np.asarray([9], np.int32)])
    assert words in [prompt[place : place + len(words)].tolist() for place in range(len(prompt))]


def test_a_shorter_history_of_the_question_is_said(model, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(candidate_objective, "context_length", lambda _: 70)
    config = question_recipe(tmp_path, model.index).train
    own = replace(model, facts={})
    lengths = np.asarray([2, 12, 12])
    made = with_question(None, own, config, lengths, seed=0)  # its other losses play no part
    shown = made.question.max_history
    assert 1 <= shown < 10
    assert own.facts["question"]["max_history"] == shown
    assert f"shows the newest {shown} items of a history in place of 10" in caplog.text
    assert f"2 users are cut, and their {2 * (10 - shown)} oldest items are dropped" in caplog.text
    assert own.facts["question"]["users_cut"] == 2
    assert own.facts["question"]["items_dropped"] == 2 * (10 - shown)
