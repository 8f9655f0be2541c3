"""Every recipe of configs/ at tiny size: a stopped training goes on, merged is what was trained."""

import shutil

import pytest
import torch
from peft import PeftModel

from genrec import artifacts
from genrec.cf import epoch_training
from genrec.data.dataset import Dataset
from genrec.model.generative import GenerativeModel
from genrec.model.language_model import add_codes, load_pretrained
from genrec.recipe_file import builtin_names, load_recipe
from genrec.semantic_ids.item_index import ItemIndex
from genrec.training import train
from tests.model.words import letter_model
from tests.stopping import stop_at
from tests.tiny_run import TINY, invoke

NAMES = builtin_names()
PRETRAINED = [name for name in NAMES if load_recipe(name).train.language_model]
SMALL = [
    *(each for each in TINY if not each.startswith("train.language_model")),
    "data.path=null", "embed.method=tfidf", "index.rq_vae.epochs=2", "index.rq_vae.hidden=[8]",
    "index.rq_vae.dimensions=4", "index.rq_vae.minimum_usage=0", "align.epochs=1",
    "train.batch_tokens=900", "train.max_history=4", "train.evaluations=2", "train.epochs=50",
    "train.max_steps=8", "train.dense.calibration_users=20", "train.task_examples=4",
    "train.bridge.candidate_items=3",
]  # fmt: skip


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    return letter_model(tmp_path_factory.mktemp("lm") / "letters", hidden=16, context=1024)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, language_model):
    """Return the run folder of a recipe, trained once."""
    made = {}

    def of(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("runs") / name
            own = [f"train.language_model={language_model}"] if name in PRETRAINED else []
            sets = [part for each in (*SMALL, *own) for part in ("--set", each)]
            done = invoke("run", name, "--run", folder, "--until", "train", "-q", *sets)
            assert done.exit_code == 0, done.stderr
            made[name] = folder
        return made[name]

    return of


def digests(folder):
    files = sorted(folder.rglob("*.safetensors"))
    return {str(path.relative_to(folder)): artifacts.sha256_of(path) for path in files}


@pytest.mark.parametrize("name", NAMES)
def test_resumed_equals_uninterrupted(name, trained, tmp_path, monkeypatch):
    """Stopped in its second validation, so that it goes on from the checkpoint of the first."""
    straight = trained(name)
    stopped = shutil.copytree(straight, tmp_path / name)
    shutil.rmtree(stopped / "model")
    calls = stop_at(monkeypatch, train, "validate", 2)
    assert invoke("train", stopped, "-q").exit_code != 0
    assert not (stopped / "model").exists()
    assert list((stopped / "model.checkpoint").glob("checkpoint-*/trainer_state.json"))
    kept = {path.name for path in (stopped / "model.checkpoint").glob("checkpoint-*/*")}
    # Tensors and JSON, and the states of random numbers, which the trainer itself keeps.
    assert {name for name in kept if not name.endswith((".safetensors", ".json"))} == {
        "rng_state.pth"
    }
    torch.manual_seed(99)
    done = invoke("train", stopped, "-q")
    assert done.exit_code == 0, done.stderr
    # One validation before the stop, the one that was stopped, and the one that was left.
    assert len(calls) == 3
    assert digests(stopped / "model") == digests(straight / "model")


@pytest.mark.parametrize("name", PRETRAINED)
def test_merged_equals_the_adapter(name, trained, language_model):
    run = trained(name)
    index = ItemIndex.load(run / "index")
    titles = Dataset.load(run / "dataset").catalog.title_words
    model, tokenizer = load_pretrained(str(language_model), revision=None, dtype=torch.float32)
    # The rows that the training started from, to the bit.
    add_codes(model, tokenizer, index, titles, seed=load_recipe(name).seed)
    plain = {key: value.clone() for key, value in model.state_dict().items()}
    adapted = PeftModel.from_pretrained(model, run / "model" / "adapter").eval()
    merged = GenerativeModel.load(run / "model", device=torch.device("cpu")).language_model
    tokens = torch.arange(len(tokenizer))[None, 20:]
    with torch.no_grad():
        want = adapted(tokens).logits
        torch.testing.assert_close(merged(tokens).logits, want, atol=1e-4, rtol=1e-4)
    # Something was learned at all, by layers and by rows of codes, and no other row moved.
    kept = merged.state_dict()
    changed = [key for key, value in plain.items() if (value != kept[key]).any()]
    assert any("proj" in key for key in changed)
    moved = [(plain[key] != kept[key]).any(dim=1) for key in plain if "embed_tokens" in key]
    for rows in moved:
        codes = rows[-sum(index.level_sizes) :]
        assert codes.float().mean() > 0.5
        assert not rows[: len(rows) - len(codes)].any()


MOLAR = ["molar.epochs=3", "molar.patience=3", "molar.scratch.hidden=16", "molar.scratch.layers=1",
         "molar.max_history=6", "molar.batch_items=60"]  # fmt: skip


def test_molar_resumed_equals_uninterrupted(trained, tmp_path, monkeypatch):
    """The stage of recipe molar; molar-gpu's models need pictures: tests/training/test_molar.py."""
    sets = [part for each in MOLAR for part in ("--set", each)]
    straight = shutil.copytree(trained("molar"), tmp_path / "straight")
    stopped = shutil.copytree(straight, tmp_path / "stopped")
    assert invoke("molar", straight, "-q", *sets).exit_code == 0
    calls = stop_at(monkeypatch, epoch_training, "validate", 2)
    assert invoke("molar", stopped, "-q", *sets).exit_code != 0
    assert not (stopped / "molar").exists()
    assert invoke("molar", stopped, "-q", *sets).exit_code == 0
    # Two validations of the first try, and those of the two epochs that were left.
    assert len(calls) == 2 + 2
    assert digests(stopped / "molar") == digests(straight / "molar")
