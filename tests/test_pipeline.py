import dataclasses
import json
import os
import subprocess
import sys
import time

import pytest

from genrec import artifacts, pipeline
from genrec.config import Recipe
from genrec.errors import ArtifactError, ConfigError
from genrec.pipeline import changed_keys, reads_of, run_stage, run_stale, runtime_of, state_of
from genrec.recipe_file import load_recipe, parse_recipe
from genrec.run_folder import keep_recipe, locked, read_timings
from genrec.stages import STAGES, stage_of

VERBS = ["data", "cf", "embed", "index", "train", "recommend", "evaluate"]
calls: list[str] = []


def make_stage(verb):
    """Return a stage of few bytes that records its inputs as the real ones do."""
    stage = stage_of(verb)

    def run(run_folder, recipe, runtime):
        calls.append(verb)
        section = getattr(recipe, stage.section).model_dump(mode="json")
        inputs = {name: run_folder / name for name in reads_of(stage, recipe)}
        folder = run_folder / stage.folder
        with artifacts.writing(
            folder, stage.folder, seed=runtime.seed, config=section, inputs=inputs
        ) as partial:
            # The vectors of this cf do not depend on its epochs.
            body = {key: value for key, value in section.items() if key != "epochs"}
            (partial / "body.json").write_text(json.dumps([runtime.seed, body]))
        return folder

    return run


class Made:
    """Where the entry strings of the small stages point to."""


for _verb in (stage.verb for stage in STAGES):
    setattr(Made, _verb, staticmethod(make_stage(_verb)))


@pytest.fixture(autouse=True)
def small_stages(monkeypatch):
    small = tuple(
        dataclasses.replace(stage, entry=f"{__name__}:Made.{stage.verb}") for stage in STAGES
    )
    monkeypatch.setattr(pipeline, "STAGES", small)
    monkeypatch.setattr(
        pipeline, "stage_of", lambda verb: next(each for each in small if each.verb == verb)
    )
    calls.clear()


def go(run_folder, *overrides, until=None):
    """Run what is stale; return the verbs that ran and the lines that were said."""
    calls.clear()
    lines: list[str] = []
    recipe = parse_recipe("{}", list(overrides))
    run_stale(run_folder, recipe, runtime_of(recipe), announce=lines.append, until=until)
    return list(calls), lines


def test_a_first_run_makes_everything_in_order_and_a_second_nothing(tmp_path):
    ran, lines = go(tmp_path)
    assert ran == VERBS
    assert lines == [f"{verb}: stale, not made yet" for verb in VERBS]
    ran, lines = go(tmp_path)
    assert ran == []
    assert lines == [f"{verb}: fresh" for verb in VERBS]
    assert set(read_timings(tmp_path)) == set(VERBS)


def test_an_optional_stage_is_made_when_another_one_reads_it(tmp_path):
    go(tmp_path)
    ran, lines = go(tmp_path, "train.bridge.items=true")
    assert lines[3] == "align: stale, not made yet"
    assert ran == ["align", "train", "recommend"]
    # Off again, it is neither made nor looked at.
    ran, lines = go(tmp_path, "align.epochs=7")
    assert ran == ["train", "recommend"]
    assert not any("align" in line for line in lines)
    assert go(tmp_path, "train.bridge.items=true", "train.bridge.vectors=cf")[0] == [
        "train", "recommend"
    ]  # fmt: skip
    ran, lines = go(tmp_path, "train.bridge.items=true", "align.epochs=7", until="align")
    assert (ran, len(lines)) == (["align"], 4)


def test_train_reads_what_its_bridge_is_made_from():
    train = stage_of("train")
    for overrides, extra in (
        ([], set()),
        (["train.bridge.user=true"], {"cf"}),
        (["train.bridge.items=true"], {"joint"}),
        (["train.bridge.items=true", "train.bridge.vectors=text"], {"text"}),
        (["train.teacher_weight=0.5", "train.bridge.items=true"], {"cf", "joint"}),
    ):
        assert set(reads_of(train, parse_recipe("{}", overrides))) == {"dataset", "index"} | extra


def test_a_change_to_train_leaves_the_index_fresh(tmp_path):
    go(tmp_path)
    ran, lines = go(tmp_path, "train.learning_rate=0.5")
    assert ran == ["train", "recommend"]
    assert lines[3] == "index: fresh"
    assert lines[4] == "train: stale, train.learning_rate was 0.002, is 0.5"
    assert lines[5] == "recommend: stale, its input model was remade with other content"
    # The small predictions do not depend on the model, so the report stays fresh.
    assert lines[6] == "evaluate: fresh"


def test_a_stage_remade_with_the_same_content_leaves_those_after_it_fresh(tmp_path):
    go(tmp_path)
    ran, lines = go(tmp_path, "cf.epochs=7")
    assert ran == ["cf"]
    assert lines[1] == "cf: stale, cf.epochs was 100, is 7"


def test_the_reason_names_old_and_new_value_of_a_nested_key(tmp_path):
    go(tmp_path)
    _, lines = go(tmp_path, "index.levels=4", "train.lora.rank=8", "data.store.items=50")
    assert lines[0] == "data: stale, data.store.items was 1500, is 50"
    assert lines[3].startswith("index: stale, index.levels was null, is 4; its input")
    assert lines[4].startswith("train: stale, train.lora.rank was 16, is 8; its input")


def test_a_change_of_seed_makes_every_stage_stale(tmp_path):
    go(tmp_path)
    ran, lines = go(tmp_path, "seed=7")
    assert ran == VERBS
    assert all("seed was 42, is 7" in line for line in lines)


def test_runtime_and_serve_make_nothing_stale(tmp_path):
    go(tmp_path)
    assert go(tmp_path, "runtime.threads=1", "runtime.dtype=float32", "serve.port=1")[0] == []


def test_an_input_that_is_not_used_makes_nothing_stale(tmp_path):
    overrides = ["index.vectors=text"]
    go(tmp_path, *overrides)
    ran, _ = go(tmp_path, *overrides, "cf.dimensions=8")
    assert ran == ["cf", "recommend"]
    ran, _ = go(tmp_path, *overrides, "cf.dimensions=8", "embed.dimensions=9")
    assert ran == ["embed", "index"]


MOLAR = ["recommend.models=[sasrec, molar]", "molar.vectors=item_model", "image.path=pictures"]


def test_stages_that_few_recipes_ask_for_are_run_for_those_alone(tmp_path):
    ran, lines = go(tmp_path, *MOLAR)
    order = ["data", "cf", "embed", "image", "index", "train", "items", "molar"]
    assert ran == [*order, "recommend", "evaluate"]
    assert go(tmp_path, *MOLAR)[0] == []
    assert lines[3] == "image: stale, not made yet"
    ran, lines = go(tmp_path, *MOLAR, "item_model.batch_size=4", "image.pooling=cls", until="molar")
    assert ran == ["image", "items", "molar"]
    assert not any(line.startswith(("recommend", "evaluate")) for line in lines)
    # Other vectors: what is not read is not made, and another input makes the stage stale.
    few = ["recommend.models=[molar]", "molar.vectors=text", "molar.alignment_weight=0"]
    ran, lines = go(tmp_path / "few", *few)
    assert ran == ["data", "cf", "embed", "index", "train", "molar", "recommend", "evaluate"]
    ran, lines = go(tmp_path / "few", *few, "molar.alignment_weight=0.1", "cf.dimensions=8")
    assert ran == ["cf", "index", "molar", "recommend"]
    assert "molar.alignment_weight was 0.0, is 0.1; it was made without cf" in lines[5]
    # Pictures that nothing reads are not looked at.
    assert "image" not in go(tmp_path / "none", "image.path=pictures")[0]


def test_pictures_changed_after_they_were_read_make_image_stale(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "1.png").write_bytes(b"x")
    read = [f"image.path={pictures}", "index.vectors=multimodal"]
    recipe = parse_recipe("{}", read)
    assert "image" in go(tmp_path / "run", *read)[0]
    assert state_of(stage_of("image"), tmp_path / "run", recipe).fresh
    os.utime(pictures / "1.png", (time.time() + 60, time.time() + 60))
    state = state_of(stage_of("image"), tmp_path / "run", recipe)
    assert state.reasons == (f"{pictures} was changed after it was read",)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "body.json").write_text("x"), "changed or damaged"),
        (lambda folder: (folder / "body.json").unlink(), "is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "half written"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "cannot be read"),
        (lambda folder: folder.rename(folder.with_name("index.partial")), "stopped half way"),
        (lambda folder: folder.rename(folder.with_name("index.checkpoint")), "stopped half way"),
    ],
)
def test_damaged_and_half_written_folders_are_made_again(tmp_path, damage, reason):
    go(tmp_path)
    damage(tmp_path / "index")
    ran, lines = go(tmp_path)
    assert ran == ["index"]
    assert reason in lines[3]
    assert go(tmp_path)[0] == []


def test_another_format_number_is_stale(tmp_path):
    go(tmp_path)
    path = tmp_path / "text" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_number": 0}))
    ran, lines = go(tmp_path)
    assert "has format 0" in lines[2]
    assert ran == ["embed"]


def test_a_source_changed_after_it_was_read_makes_data_stale(tmp_path):
    source = tmp_path / "events.csv"
    source.write_text("user_id,item_id\n")
    run_folder = tmp_path / "run"
    os.utime(source, (time.time() - 60, time.time() - 60))
    go(run_folder, f"data.path={source}")
    assert go(run_folder, f"data.path={source}")[0] == []
    os.utime(source, (time.time() + 60, time.time() + 60))
    state = state_of(stage_of("data"), run_folder, parse_recipe("{}", [f"data.path={source}"]))
    assert state.reasons == (f"{source} was changed after it was read",)
    source.unlink()
    assert go(run_folder, f"data.path={source}")[0] == []


def test_until_stops_after_the_stage(tmp_path):
    assert go(tmp_path, until="index")[0] == ["data", "cf", "embed", "index"]


def test_one_stage_runs_alone_even_when_fresh_and_keeps_the_recipe(tmp_path):
    go(tmp_path)
    calls.clear()
    recipe = parse_recipe("{}", ["index.levels=5"])
    folder = run_stage("index", tmp_path, recipe, runtime_of(recipe))
    assert calls == ["index"]
    assert folder == tmp_path / "index"
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_one_stage_without_its_inputs_names_the_verbs_to_run(tmp_path):
    go(tmp_path, until="data")
    calls.clear()
    recipe = Recipe()
    with pytest.raises(ArtifactError) as caught:
        run_stage("index", tmp_path, recipe, runtime_of(recipe))
    assert f"`genrec cf {tmp_path}`, then `genrec embed {tmp_path}`" in str(caught.value)
    assert calls == []
    text_only = parse_recipe("{}", ["index.vectors=text"])
    with pytest.raises(ArtifactError) as caught:
        run_stage("index", tmp_path, text_only, runtime_of(text_only))
    assert "genrec cf" not in str(caught.value)


@pytest.mark.parametrize(
    ("remade", "change", "asked", "stale", "maker"),
    [
        ("index", "index.levels=5", "recommend", "model", "train"),
        ("data", "data.store.items=50", "train", "index", "index"),
        ("train", "train.learning_rate=0.5", "evaluate", "predictions", "recommend"),
    ],
)
def test_one_stage_refuses_inputs_of_another_dataset_index_or_model(
    tmp_path, remade, change, asked, stale, maker
):
    go(tmp_path)
    source = stage_of(remade).folder
    before = artifacts.read_manifest(tmp_path / source).digest
    recipe = parse_recipe("{}", [change])
    run_stage(remade, tmp_path, recipe, runtime_of(recipe))
    after = artifacts.read_manifest(tmp_path / source).digest
    calls.clear()
    with pytest.raises(ArtifactError) as caught:
        run_stage(asked, tmp_path, recipe, runtime_of(recipe))
    message = str(caught.value)
    assert f"{tmp_path / stale} was made from {source} {before[:12]}, but" in message
    assert f"is {after[:12]}. Run `genrec {maker} {tmp_path}` again" in message
    assert calls == []
    # Remade in order, or from the same content again, it goes on.
    go(tmp_path, change)
    run_stage(asked, tmp_path, recipe, runtime_of(recipe))


def test_a_stage_that_fails_keeps_those_before_it(tmp_path, monkeypatch):
    def fail(run_folder, recipe, runtime):
        raise KeyboardInterrupt

    monkeypatch.setattr(Made, "train", staticmethod(fail))
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path)
    monkeypatch.setattr(Made, "train", staticmethod(make_stage("train")))
    assert go(tmp_path)[0] == ["train", "recommend", "evaluate"]


def test_a_recipe_that_is_refused_at_once_does_not_stay(tmp_path, monkeypatch):
    def refuse(run_folder, recipe, runtime):
        raise ConfigError("the width must be a multiple of the heads")

    go(tmp_path)
    kept = (tmp_path / "recipe.yaml").read_text()
    recipe = parse_recipe("{}", ["train.scratch.heads=3"])
    monkeypatch.setattr(Made, "train", staticmethod(refuse))
    with pytest.raises(ConfigError, match="width"):
        run_stage("train", tmp_path, recipe, runtime_of(recipe))
    assert (tmp_path / "recipe.yaml").read_text() == kept
    with pytest.raises(ConfigError, match="width"):
        go(tmp_path, "train.scratch.heads=3")
    assert (tmp_path / "recipe.yaml").read_text() == kept
    # What the new recipe has made already belongs to it, and a first recipe has none before it.
    for overrides, folder in ((["cf.dimensions=8"], tmp_path), ([], tmp_path / "first")):
        with pytest.raises(ConfigError, match="width"):
            go(folder, "train.scratch.heads=3", *overrides)
        assert load_recipe(folder / "recipe.yaml").train.scratch.heads == 3


def test_a_killed_run_keeps_its_recipe(tmp_path, monkeypatch):
    def stop(run_folder, recipe, runtime):
        raise KeyboardInterrupt

    go(tmp_path)
    monkeypatch.setattr(Made, "train", staticmethod(stop))
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, "train.epochs=3")
    assert load_recipe(tmp_path / "recipe.yaml").train.epochs == 3


def test_a_second_writer_gets_an_error_with_the_first_ones_process(tmp_path):
    with locked(tmp_path):
        with pytest.raises(ArtifactError, match=f"process {os.getpid()}"):
            go(tmp_path)
    assert go(tmp_path)[0] == VERBS


def test_the_lock_of_a_killed_process_does_not_stay(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from genrec.run_folder import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    print('held', flush=True); signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ArtifactError, match=f"process {other.pid}"), locked(tmp_path):
            pass
        other.kill()
        other.wait()
    assert (tmp_path / ".lock").read_text() == f"{other.pid}\n"
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"


def test_a_run_folder_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "run"
    path.write_text("")
    with pytest.raises(ArtifactError, match="is a file"):
        go(path)


def test_changed_keys_are_sorted_and_counted():
    old = {"a": 1, "b": {"c": None, "d": 2}, "e": [1], "f": 0, "g": 0, "gone": 1}
    new = {"a": 2, "b": {"c": 3, "d": 2}, "e": [1, 2], "f": 1, "g": 1, "new": 1}
    assert changed_keys(old, new, "x") == [
        "x.a was 1, is 2",
        "x.b.c was null, is 3",
        "x.e was [1], is [1, 2]",
        "x.f was 0, is 1",
        "3 more keys of x changed",
    ]
    assert changed_keys({"gone": 1}, {"new": 1}, "x") == ["x.gone is gone", "x.new is new"]
    assert changed_keys(old, old, "x") == []


def test_damaged_timings_are_refused(tmp_path):
    keep_recipe(tmp_path, Recipe())
    assert read_timings(tmp_path) == {}
    (tmp_path / "timings.json").write_text("[1]")
    with pytest.raises(ArtifactError, match=r"timings\.json"):
        read_timings(tmp_path)
