"""The stage: what it writes, and what it refuses."""

import json
import re

import pytest
from PIL import Image

from genrec import artifacts
from genrec.config import EvaluateConfig, Recipe
from genrec.errors import ArtifactError
from genrec.evaluation.evaluate import evaluate
from genrec.evaluation.examples import examples_markdown
from genrec.evaluation.plot import plot
from genrec.evaluation.report import Report, in_table_order, run
from genrec.evaluation.tables import to_markdown
from genrec.runtime import Runtime
from genrec.stages import stage_of
from tests.evaluation.world import lists, make_dataset, random_dataset, save_run, skilled_lists

RECIPE = Recipe(evaluate=EvaluateConfig(cutoffs=[1, 5, 10, 20], bootstrap=50))
QUIET = Runtime(quiet=True)
BEST = {"recall@10": 0.9, "ndcg@10": 0.8}


@pytest.fixture
def world(tmp_path):
    dataset = random_dataset(users=80, facts={"best_possible": BEST})
    skills = [("other", 0.2), ("genrec", 0.9), ("sasrec", 0.5), ("popularity", 0.1)]
    predictions = [
        skilled_lists(model, dataset, skill, k=20, seed=seed)
        for seed, (model, skill) in enumerate(skills)
    ]
    save_run(tmp_path, dataset, predictions)
    return tmp_path, dataset, predictions


def test_report_json(world):
    folder, dataset, _ = world
    report_folder = run(folder, RECIPE, QUIET)
    assert report_folder == folder / stage_of("evaluate").folder
    body = json.loads((report_folder / "report.json").read_text())
    assert [row["model"] for row in body["rows"]] == ["popularity", "sasrec", "genrec", "other"]
    assert body["best_possible"] == BEST
    assert body["protocol"]["seeds"] == {"dataset": 7, "predictions": 8}
    assert body["protocol"]["exclude_seen"] is True
    for row in body["rows"]:
        assert row["examples"] == 80
        assert row["seconds"] == 1.5
        assert row["recall@10_low"] <= row["recall@10"] <= row["recall@10_high"]
    manifest = artifacts.verify(report_folder, "report")
    assert set(manifest.files) == {"report.json", "report.md", "report.png", "examples.md"}
    assert set(manifest.inputs) == {"dataset", "predictions"}
    assert manifest.config == {"cutoffs": [1, 5, 10, 20], "bootstrap": 50}
    assert Report.load(report_folder).rows == body["rows"]
    assert dataset.facts["best_possible"] == BEST


def test_two_runs_write_the_same_bytes(world):
    folder, _, _ = world
    first = artifacts.read_manifest(run(folder, RECIPE, QUIET)).files
    assert artifacts.read_manifest(run(folder, RECIPE, QUIET)).files == first


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_headline_table_of_the_markdown(world):
    folder, _, _ = world
    text = (run(folder, RECIPE, QUIET) / "report.md").read_text()
    rows = json.loads((folder / "report" / "report.json").read_text())["rows"]
    table = [cells(line) for line in text.splitlines() if line.startswith("|")]
    assert table[0][:4] == ["model", "recall@10", "of best possible", "ndcg@10"]
    for row, line in zip(rows, table[2:6], strict=True):
        assert line[0] == row["model"]
        assert line[1].strip("*").startswith(f"{row['recall@10']:.4f} [")
        assert line[2] == f"{100 * row['recall@10'] / 0.9:.1f} %"
        assert line[1].startswith("**") == (row["model"] == "genrec")
    assert table[6][:4] == ["best possible", "0.9000", "100.0 %", "0.8000"]
    assert "Items of the user's history: never recommended." in text
    assert "50 resamples, seed 42" in text
    for line in text.splitlines():
        if line.startswith("| :---"):
            assert re.fullmatch(r"\| :---( \| :?---:?)+ \|", line)


def test_every_table_is_rectangular(world):
    folder, _, _ = world
    run(folder, RECIPE, QUIET)
    for name in ("report.md", "examples.md"):
        width = 0
        for line in (folder / "report" / name).read_text().splitlines():
            if not line.startswith("|"):
                width = 0
                continue
            found = len(re.findall(r"(?<!\\)\|", line))
            assert width in (0, found), line
            width = found


def test_markdown_names_what_was_not_measured():
    dataset = random_dataset(users=20)
    small = skilled_lists("genrec", dataset, 0.5, examples=[3, 4, 5])
    big = skilled_lists("popularity", dataset, 0.5)
    text = to_markdown(evaluate([big, small], dataset, [5, 10, 50], samples=0))
    assert "the lists hold 10 items: @50." in text
    assert "Each model on all of its own examples" in text
    assert "popularity 20 (seed 3), genrec 3 (seed 3)" in text
    assert "95 %" not in text
    assert "best possible" not in text.lower()


def test_a_name_with_marks_breaks_no_table():
    dataset = random_dataset(users=20)
    text = to_markdown(evaluate([skilled_lists("a|b_c", dataset, 0.5)], dataset, [5], samples=9))
    assert "| a\\|b\\_c |" in text


def test_examples_show_history_target_and_hits():
    dataset = make_dataset([[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]], 20)
    shown = lists("sasrec", [[13, 12, -1, 14, 15, 16]])
    missed = lists("genrec", [[]])
    text = examples_markdown([shown, missed], dataset, "test")
    history = [f"{place}. Thing {12 - place}" for place in range(1, 11)]
    assert [line for line in text.splitlines() if re.match(r"\d+\. ", line)] == history
    assert "Had 12 items, newest first:" in text
    assert "Took next: **Thing 12**" in text
    table = [cells(line) for line in text.splitlines() if line.startswith("|")][2:]
    assert [row[1] for row in table] == [
        "Thing 13",
        "**Thing 12**",
        "(no item)",
        "Thing 14",
        "Thing 15",
    ]
    assert {row[2] for row in table} == {""}
    assert "sasrec 2, genrec not in the list." in text


def test_examples_are_drawn_by_seed_from_the_common_ones():
    dataset = random_dataset(users=50)
    everyone = skilled_lists("sasrec", dataset, 0.5)
    some = skilled_lists("genrec", dataset, 0.5, examples=range(20, 50))
    pages = [examples_markdown([everyone, some], dataset, "test", seed=seed) for seed in (1, 1, 2)]
    assert pages[0] == pages[1] != pages[2]
    users = [int(row) for row in re.findall(r"^## \d+\. User u(\d+)$", pages[0], re.MULTILINE)]
    assert len(set(users)) == 10
    assert min(users) >= 20
    assert users != sorted(users)


@pytest.mark.parametrize("models", [1, 4])
def test_plot_draws_every_bar(models, tmp_path):
    dataset = random_dataset(users=40)
    predictions = [skilled_lists(f"m{row}", dataset, 0.6, seed=row) for row in range(models)]
    report = evaluate(predictions, dataset, [10], samples=20)
    plot(report, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        width, height = image.size
        colours = {colour for _, colour in image.convert("RGB").getcolors(maxcolors=2**20)}
    assert width == 1500
    assert height > 200
    assert (0x3B, 0x7C, 0xC0) in colours
    assert ((0xB9, 0xC9, 0xDA) in colours) == (models > 1)


def test_plot_of_models_that_find_nothing(tmp_path):
    dataset = make_dataset([[0, 1, 2]], 5)
    plot(evaluate([lists("mine", [[]], k=1)], dataset, [1]), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_predictions_of_another_dataset(world):
    folder, _, predictions = world
    other = folder / "other"
    save_run(other, random_dataset(users=80, seed=5), predictions)
    (folder / "dataset").rename(folder / "old")
    (other / "dataset").rename(folder / "dataset")
    with pytest.raises(ArtifactError, match="was made from dataset .* run `genrec recommend`"):
        run(folder, RECIPE, QUIET)
    assert not (folder / "report").exists()


def test_damaged_and_missing_inputs(world):
    folder, _, _ = world
    path = folder / "predictions" / "genrec.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ArtifactError, match="changed or damaged"):
        run(folder, RECIPE, QUIET)
    (folder / "predictions").rename(folder / "predictions.partial")
    with pytest.raises(ArtifactError, match="does not exist"):
        run(folder, RECIPE, QUIET)


def test_a_report_that_is_none(tmp_path):
    with pytest.raises(ArtifactError, match=r"report\.json cannot be read"):
        Report.load(tmp_path)
    (tmp_path / "report.json").write_text('{"rows": []}')
    with pytest.raises(ArtifactError, match="genrec evaluate"):
        Report.load(tmp_path)


def test_table_order():
    given = ["zeta", "genrec", "alpha", "popularity", "sasrec", "transition"]
    wanted = ["popularity", "transition", "sasrec", "genrec", "alpha", "zeta"]
    assert in_table_order(given) == wanted
