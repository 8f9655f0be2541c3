"""Learning from rewards in the train stage: what is kept, what is refused, what a stop changes."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from genrec import artifacts
from genrec.decoding.ranker import GenerativeRanker
from genrec.errors import ConfigError
from genrec.model.code_head import CodeHead
from genrec.model.generative import GenerativeModel
from genrec.training import events as learning
from genrec.training import reinforcement_trainer, train
from genrec.training.policy import Policy
from tests.stopping import stop_at
from tests.training.world import (
    ENCODER_DECODER,
    RUNTIME,
    make_run,
    recipe,
    tiny_language_model,
    with_other_held_out,
)

CPU = torch.device("cpu")
# A step so small that the model stays as it starts: it gives all items about the same.
FLAT = {"max_steps": 1, "evaluations": 1, "learning_rate": 1e-9}
TEACHES = {"steps": 25, "histories": 32, "learning_rate": 1e-2, "evaluations": 3}


@pytest.fixture
def run_folder(tmp_path, cycle_dataset, small_index):
    return make_run(tmp_path / "run", cycle_dataset, small_index)


def phases(folder):
    log = json.loads((folder / "training.json").read_text())
    return (
        [entry for entry in log if "phase" not in entry],
        [entry for entry in log if entry.get("phase") == "reinforcement"],
    )


def facts(folder):
    return json.loads((folder / "genrec.json").read_text())["facts"]


def kept(monkeypatch, name):
    """Keep what a function of the trainer is given and gives, and return where."""
    calls, function = [], getattr(reinforcement_trainer, name)

    def keep(*given, **settings):
        calls.append((given, settings, function(*given, **settings)))
        return calls[-1][2]

    monkeypatch.setattr(reinforcement_trainer, name, keep)
    return calls


@pytest.mark.parametrize("changes", [{}, ENCODER_DECODER], ids=["decoder", "encoder-decoder"])
def test_a_flat_model_learns_the_circle_from_rewards_alone(run_folder, changes, caplog):
    """Every history has one right item; the events taught nothing, so rewards must have."""
    caplog.set_level(logging.INFO)
    settings = recipe(**(changes | FLAT), reinforcement=TEACHES)
    folder = train.run(run_folder, settings, RUNTIME)
    known = facts(folder)["reinforcement"]
    assert known["kept"]
    assert known["before"]["ndcg@10"] < 0.4
    assert known["after"]["ndcg@10"] > known["before"]["ndcg@10"] + 0.3
    assert facts(folder)["validation"]["ndcg@10"] == known["after"]["ndcg@10"]
    model = GenerativeModel.load(folder, device=CPU)
    histories = [np.asarray([row - 2, row - 1, row], dtype=np.int32) for row in range(2, 23)]
    rankings = GenerativeRanker(model, beam=10).rank(histories, 3, exclude=histories)
    hits = [row + 1 in each.items for row, each in zip(range(2, 23), rankings, strict=True)]
    assert np.mean(hits) > 0.7
    assert "recall@50" in caplog.text
    assert "; kept" in caplog.text
    events, rewards = phases(folder)
    assert events
    assert rewards[0]["eval_ndcg@10"] == known["before"]["ndcg@10"]
    learning = [entry for entry in rewards if "loss" in entry]
    assert len(learning) == TEACHES["steps"]
    assert {"group_ndcg", "groups_with_hit", "groups_that_teach", "kl", "clipped"} <= set(
        learning[0]
    )
    assert learning[-1]["group_ndcg"] > learning[0]["group_ndcg"] + 0.2


@pytest.mark.parametrize("form", ["stream", "instruction"])
def test_adapters_and_new_rows_learn_from_rewards(
    run_folder, cycle_dataset, small_index, tmp_path, form, monkeypatch
):
    groups, losses = kept(monkeypatch, "draw_groups"), kept(monkeypatch, "grpo_loss")
    source = str(tiny_language_model(tmp_path / "lm", small_index))
    rewards = TEACHES | {"learning_rate": 3e-2, "steps": 15, "hint_codes": 1}
    # A step on events takes two batches, a step on rewards one.
    events = FLAT | {"batches_per_step": 2, "epochs": 4}
    settings = recipe(**events, language_model=source, form=form, reinforcement=rewards)
    rewarded = settings.train.reinforcement
    folder = train.run(run_folder, settings, RUNTIME)
    known = facts(folder)["reinforcement"]
    assert known["kept"]
    assert known["after"]["ndcg@10"] > known["before"]["ndcg@10"] + 0.1
    assert facts(folder)["score"] == ("exact" if form == "instruction" else "level")
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    learning = [entry for entry in phases(folder)[1] if "loss" in entry]
    assert learning[0]["kl"] == pytest.approx(0, abs=1e-3)
    # The divergence is that from the model as events left it, throughout.
    events_only = make_run(tmp_path / "events", cycle_dataset, small_index)
    settings = recipe(**events, language_model=source, form=form)
    tuned = GenerativeModel.load(train.run(events_only, settings, RUNTIME), device=CPU)
    policy = Policy(tuned, CodeHead(tuned.language_model, tuned.vocabulary))
    for place, ((_, histories, *_), _, each) in enumerate(groups):
        _, old, reference, _, drawn = losses[2 * place][0]
        with torch.no_grad():
            before = policy.log_probabilities(histories, each.items)
        torch.testing.assert_close(reference[drawn], before[drawn], atol=5e-3, rtol=0)
    assert (old - reference)[drawn].abs().max() > 0.1
    # Groups are drawn once, and two steps are made on each; codes given away are not learned.
    assert (len(groups), len(losses)) == (15, 2 * 15)
    assert any(each.hints.any() for *_, each in groups)
    wanted = {"clip": rewarded.clip, "kl_weight": rewarded.kl_weight}
    for place, (given, named, _) in enumerate(losses):
        assert named == wanted
        new, old, _, _, drawn = given
        each = groups[place // 2][2]
        levels = np.arange(2)[None, None] >= each.hints[:, None, None]
        assert (drawn.numpy() == (each.real[:, :, None] & levels)).all()
        assert torch.equal(old, losses[place - place % 2][0][0])
        # The very first step is of size 0, so that the second one finds the model as it was.
        assert place < 2 or torch.equal(new, old) == (place % 2 == 0)


def test_what_is_no_better_is_thrown_away(tmp_path, cycle_dataset, small_index, caplog):
    """Steps far too large; the folder holds the very weights of a training without rewards."""
    caplog.set_level(logging.INFO)
    events = {"epochs": 12, "evaluations": 1}
    ruin = {"steps": 2, "histories": 8, "learning_rate": 0.05, "evaluations": 2}
    folders = [
        train.run(
            make_run(tmp_path / name, cycle_dataset, small_index),
            recipe(**events, reinforcement=rewards),
            RUNTIME,
        )
        for name, rewards in (("plain", {}), ("ruined", ruin))
    ]
    weights = [artifacts.sha256_of(folder / "model.safetensors") for folder in folders]
    assert weights[0] == weights[1]
    known = facts(folders[1])["reinforcement"]
    assert not known["kept"]
    assert known["after"]["ndcg@10"] < known["before"]["ndcg@10"]
    reached = [facts(folder)["validation"]["ndcg@10"] for folder in folders]
    assert reached[0] == reached[1]
    assert "reinforcement" not in facts(folders[0])
    assert "stays as it was trained on events" in caplog.text


def test_batches_that_teach_nothing_are_refused_and_the_trained_model_is_not_lost(
    tmp_path, cycle_dataset, small_index, monkeypatch, caplog
):
    """With no hit in any group; what was trained on events is not trained again afterwards."""
    draw = reinforcement_trainer.draw_groups

    def without_hits(*args, **settings):
        groups = draw(*args, **settings)
        groups.hits[:] = False
        return groups

    monkeypatch.setattr(reinforcement_trainer, "draw_groups", without_hits)
    events = {"epochs": 2, "evaluations": 1}
    run = make_run(tmp_path / "run", cycle_dataset, small_index)
    # Even where there are fewer batches than patience waits for.
    few = {"steps": 2, "histories": 8, "patience": 3}
    with pytest.raises(ConfigError, match="2 batches of 8 histories in a row"):
        train.run(run, recipe(**events, reinforcement=few), RUNTIME)
    rewards = {"steps": 9, "histories": 8, "patience": 3}
    with pytest.raises(ConfigError, match="3 batches of 8 histories in a row") as refused:
        train.run(run, recipe(**events, reinforcement=rewards), RUNTIME)
    for part in ("0.0% of the groups", "hint_codes: 1", "reinforcement.steps: 0"):
        assert part in str(refused.value)
    assert not (run / "model").exists()
    monkeypatch.setattr(
        learning.CodeTrainer, "train", lambda *_args, **_settings: pytest.fail("trained twice")
    )
    caplog.set_level(logging.INFO)
    folder = train.run(run, recipe(**events), RUNTIME)
    assert "the training on events is done" in caplog.text
    monkeypatch.undo()
    plain = make_run(tmp_path / "plain", cycle_dataset, small_index)
    other = train.run(plain, recipe(**events), RUNTIME)
    assert artifacts.sha256_of(folder / "model.safetensors") == artifacts.sha256_of(
        other / "model.safetensors"
    )
    assert not (run / "model.checkpoint").exists()


@pytest.mark.parametrize(
    ("pretrained", "more"),
    # What distils vectors is never moved by rewards, and its optimizer has nothing to say of it.
    [(False, {}), (True, {}), (False, {"distillation_weight": 0.3})],
)
def test_stop_and_resume_gives_what_an_uninterrupted_run_gives(
    pretrained, more, tmp_path, cycle_dataset, small_index, monkeypatch
):
    rewards = {"steps": 8, "histories": 16, "learning_rate": 3e-3, "evaluations": 4}
    changes = FLAT | {"reinforcement": rewards} | more
    if pretrained:
        changes["language_model"] = str(tiny_language_model(tmp_path / "lm", small_index))
    settings = recipe(**changes)
    straight = make_run(tmp_path / "straight", cycle_dataset, small_index)
    train.run(straight, settings, RUNTIME)
    assert facts(straight / "model")["reinforcement"]["kept"]

    stopped = make_run(tmp_path / "stopped", cycle_dataset, small_index)
    # One validation of the events, one before the rewards, and the third of the rewards.
    calls = stop_at(monkeypatch, train, "validate", 5)
    with pytest.raises(KeyboardInterrupt):
        train.run(stopped, settings, RUNTIME)
    saved = (stopped / "model.checkpoint/reinforcement").glob("checkpoint-*")
    assert sorted(path.name for path in saved) == ["checkpoint-4", "checkpoint-8"]
    train.run(stopped, settings, RUNTIME)
    # Before the rewards again, and the last two of them.
    assert len(calls) == 8
    assert artifacts.sha256_of(stopped / "model/model.safetensors") == artifacts.sha256_of(
        straight / "model/model.safetensors"
    )
    assert facts(stopped / "model")["reinforcement"] == facts(straight / "model")["reinforcement"]


def test_held_out_events_are_no_rewards(tmp_path, cycle_dataset, small_index):
    """A planted leak: with other held-out items every step on rewards must be the same."""
    planted = with_other_held_out(cycle_dataset)
    losses = []
    for name, dataset in (("a", cycle_dataset), ("b", planted)):
        run = make_run(tmp_path / name, dataset, small_index)
        rewards = TEACHES | {"steps": 4, "evaluations": 1}
        folder = train.run(run, recipe(**FLAT, reinforcement=rewards), RUNTIME)
        losses.append([entry["loss"] for entry in phases(folder)[1] if "loss" in entry])
    assert len(losses[0]) == 4
    assert losses[0] == losses[1]


def test_running_out_of_memory_names_the_keys_of_this_phase(run_folder, monkeypatch):
    def full(*_given, **_settings):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(train, "reinforce", full)
    with pytest.raises(ConfigError, match="learning from rewards takes about") as caught:
        train.run(run_folder, recipe(**FLAT, reinforcement=TEACHES), RUNTIME)
    assert "Lower train.reinforcement.histories, then train.reinforcement.group" in str(
        caught.value
    )


def test_a_loss_that_is_no_number_names_the_step_size_of_this_phase(run_folder, monkeypatch):
    honest = reinforcement_trainer.grpo_loss

    def spoiled(*given, **settings):
        found = honest(*given, **settings)
        return replace(found, loss=found.loss * float("nan"))

    monkeypatch.setattr(reinforcement_trainer, "grpo_loss", spoiled)
    with pytest.raises(ConfigError, match=r"lower train.reinforcement.learning_rate \(now"):
        train.run(run_folder, recipe(**FLAT, reinforcement=TEACHES), RUNTIME)
