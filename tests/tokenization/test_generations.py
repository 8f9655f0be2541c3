import shutil
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from genrec import artifacts
from genrec.config import DataConfig, EmbedConfig, Recipe
from genrec.data import prepare
from genrec.data.catalog import Catalog
from genrec.embeddings import text
from genrec.embeddings.encoder_state import TfidfState
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ArtifactError, ConfigError, DataError
from genrec.run_folder import keep_recipe, locked
from genrec.semantic_ids.generations import FOLDER, latest, lineage
from genrec.semantic_ids.item_index import ItemIndex
from genrec.tokenization.generations import add, remove
from genrec.tokenization.growth import add_items, codes_in_use
from genrec.tokenization.residual_kmeans import ResidualKMeans
from tests.tokenization import living_run
from tests.tokenization.living_run import CODES, ITEMS, QUIET, texts_of, write_items


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return living_run.build(tmp_path_factory.mktemp("run") / "shop")


@pytest.fixture
def run(built, tmp_path):
    """A copy of the run that a test may change."""
    return shutil.copytree(built, tmp_path / "shop")


def codes_by_id(run, folder):
    names = Catalog.load(run / "dataset" if folder == run / "index" else folder).item_ids
    index = ItemIndex.load(folder)
    assert len(names) == len(index)
    return dict(zip(names, map(tuple, index.codes.tolist()), strict=True))


def test_without_a_later_generation_the_newest_is_the_index(run):
    assert latest(run) == run / "index"
    [first] = lineage(run)
    assert (first.number, first.folder, first.added, first.removed) == (1, run / "index", 0, 0)
    assert first.digest == artifacts.read_manifest(run / "index").digest


def test_new_items_stand_behind_the_old_ones_which_keep_their_codes(run, tmp_path):
    before = artifacts.read_manifest(run / "index")
    ids = write_items(tmp_path / "new.csv", texts_of(15, seed=1))
    folder = add(run, tmp_path / "new.csv", QUIET)
    assert folder == run / FOLDER / "2" == latest(run)
    assert artifacts.verify(run / "index", "index") == before
    manifest = artifacts.verify(folder, "index")
    assert manifest.facts == {
        "generation": 2, "root": before.digest, "parent": before.digest, "items": ITEMS + 15,
        "added": 15, "removed": 0, "back": 0, "moved": manifest.facts["moved"], "refused": 0,
        "without_text": 0,
    }  # fmt: skip
    assert manifest.seed == before.seed
    old = Catalog.load(run / "dataset").table
    table = Catalog.load(folder).table
    assert table.head(ITEMS).equals(old)
    assert table["item_id"].to_list()[ITEMS:] == ids
    index, first = ItemIndex.load(folder), ItemIndex.load(run / "index")
    np.testing.assert_array_equal(index.codes[:ITEMS], first.codes)
    assert index.level_sizes == first.level_sizes
    # What the new items were encoded from, by the encoder that the run kept.
    vectors = TfidfState.load(run / "text").encode(table["text"].to_list()[ITEMS:])
    np.testing.assert_array_equal(EmbeddingTable.load(folder, "added_text").vectors, vectors)
    x = EmbeddingTable.load(folder, "added").vectors
    np.testing.assert_array_equal(x, EmbeddingTable(vectors, {}).normalised())
    known = codes_in_use(first)
    quantizer = ResidualKMeans.load(run / "index")
    added = add_items(first, quantizer, x, ids, old["item_id"].to_list(), codes_known=known)
    np.testing.assert_array_equal(index.codes[ITEMS:], added.codes)
    assert manifest.facts["moved"] == added.moved.sum()


def test_generations_are_made_one_from_the_other(run, tmp_path):
    write_items(tmp_path / "a.csv", texts_of(5, seed=1))
    write_items(tmp_path / "b.csv", texts_of(5, seed=2), start=5)
    second = add(run, tmp_path / "a.csv", QUIET)
    third = remove(run, ["i7", "n2", "i7"])
    fourth = add(run, tmp_path / "b.csv", QUIET)
    chain = lineage(run)
    assert [each.folder for each in chain] == [run / "index", second, third, fourth]
    assert [(each.number, each.added, each.removed) for each in chain] == [
        (1, 0, 0), (2, 5, 0), (3, 0, 2), (4, 5, 0),
    ]  # fmt: skip
    links = [artifacts.read_manifest(each.folder).inputs for each in chain[1:]]
    assert [link["parent"]["digest"] for link in links] == [each.digest for each in chain[:-1]]
    assert {link["index"]["digest"] for link in links} == {chain[0].digest}
    assert latest(run) == fourth
    newest = codes_by_id(run, fourth)
    for folder in (run / "index", second, third):
        old = codes_by_id(run, folder)
        assert {name: newest[name] for name in old if name in newest} == {
            name: codes for name, codes in old.items() if name in newest
        }
    assert len(newest) == ITEMS + 5 - 2 + 5


def test_removed_items_leave_no_row_and_are_named(run):
    folder = remove(run, ["i3", "i0"])
    assert pl.read_parquet(folder / "removed.parquet")["item_id"].to_list() == ["i3", "i0"]
    left = [f"i{row}" for row in range(ITEMS) if row not in (0, 3)]
    assert Catalog.load(folder).item_ids == left
    first = codes_by_id(run, run / "index")
    assert codes_by_id(run, folder) == {name: first[name] for name in left}


def test_an_item_that_comes_back_gets_its_old_codes_while_they_are_free(run, tmp_path):
    first = codes_by_id(run, run / "index")
    remove(run, ["i3", "i4"])
    texts = dict(zip(Catalog.load(run / "dataset").item_ids,
                     Catalog.load(run / "dataset").texts, strict=True))  # fmt: skip
    # Another item with the text of i4 takes its place before it comes back.
    write_items(tmp_path / "a.csv", [texts["i4"]])
    taken = codes_by_id(run, add(run, tmp_path / "a.csv", QUIET))["n0"]
    assert taken == first["i4"]
    (tmp_path / "b.csv").write_text("item_id,title,text\nn9,T,red\ni4,T,any\ni3,T,other\n")
    folder = add(run, tmp_path / "b.csv", QUIET)
    codes = codes_by_id(run, folder)
    assert codes["i3"] == first["i3"]
    assert codes["i4"] != first["i4"]
    assert list(codes)[-3:] == ["i3", "n9", "i4"]
    assert artifacts.read_manifest(folder).facts["back"] == 1
    # Vectors are kept of those that were encoded, the last two.
    assert len(EmbeddingTable.load(folder, "added")) == 2
    remove(run, ["i5"])
    (tmp_path / "c.csv").write_text("item_id,title,text\ni5,T,any\n")
    folder = add(run, tmp_path / "c.csv", QUIET)
    assert codes_by_id(run, folder)["i5"] == first["i5"]
    assert not (folder / "added.safetensors").exists()


def test_every_row_that_was_not_taken_is_in_the_quarantine(run, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("item_id,title,text\nn1,A,red lamp\ni2,B,mug\n,C,bag\nn1,D,coat\nn2,E,\n")
    folder = add(run, path, QUIET)
    assert Catalog.load(folder).item_ids[ITEMS:] == ["n1", "n2"]
    assert pl.read_parquet(folder / "quarantine.parquet").sort("row").rows() == [
        (str(path), 3, "item_id is in the catalogue already", "i2"),
        (str(path), 4, "item_id is missing", ""),
        (str(path), 5, "item_id came before in this file", "n1"),
    ]
    facts = artifacts.read_manifest(folder).facts
    assert (facts["added"], facts["refused"], facts["without_text"]) == (2, 3, 1)


def test_items_beyond_the_last_free_tuple_are_refused(run, tmp_path):
    known = [allowed.sum() for allowed in codes_in_use(ItemIndex.load(run / "index"))]
    free = int(np.prod(known)) - ITEMS
    write_items(tmp_path / "new.csv", texts_of(free + 7, seed=1))
    folder = add(run, tmp_path / "new.csv", QUIET)
    assert len(ItemIndex.load(folder)) == ITEMS + free
    refused = pl.read_parquet(folder / "quarantine.parquet")
    assert refused.height == 7
    assert refused["reason"].unique().to_list() == [
        "every tuple of codes that the model knows is taken by a nearer item"
    ]
    # The row is that of the file: the header is row 1, n0 is row 2.
    assert refused["row"].to_list() == [int(name[1:]) + 2 for name in refused["text"]]
    write_items(tmp_path / "more.csv", texts_of(1, seed=2), start=10_000)
    with pytest.raises(DataError, match="none of its 1 new items: every tuple"):
        add(run, tmp_path / "more.csv", QUIET)
    assert latest(run) == folder


def test_codes_that_the_trained_index_does_not_use_are_never_given(run, tmp_path):
    known = codes_in_use(ItemIndex.load(run / "index"))
    write_items(tmp_path / "new.csv", texts_of(30, seed=1))
    codes = ItemIndex.load(add(run, tmp_path / "new.csv", QUIET)).codes
    for level in range(3):
        assert known[level][codes[:, level]].all()


def test_the_same_items_in_another_order_get_the_same_codes(run, tmp_path):
    write_items(tmp_path / "new.csv", texts_of(40, seed=1))
    header, *rows = (tmp_path / "new.csv").read_text().splitlines()
    (tmp_path / "turned.csv").write_text("\n".join([header, *rows[::-1]]) + "\n")
    other = shutil.copytree(run, run.with_name("other"))
    straight = codes_by_id(run, add(run, tmp_path / "new.csv", QUIET))
    assert codes_by_id(other, add(other, tmp_path / "turned.csv", QUIET)) == straight
    again = shutil.copytree(other, run.with_name("again"))
    shutil.rmtree(again / FOLDER)
    add(again, tmp_path / "new.csv", QUIET)
    assert lineage(again) != lineage(run)
    assert lineage(again)[1].digest == lineage(run)[1].digest


def test_a_failure_leaves_no_generation_behind(run, tmp_path):
    with pytest.raises(DataError, match="2 of 3 ids are not in it, as 'x', 'y'"):
        remove(run, ["x", "i1", "y"])
    with pytest.raises(DataError, match="no id"):
        remove(run, [])
    with pytest.raises(DataError, match="all 40 items would be removed"):
        remove(run, [f"i{row}" for row in range(ITEMS)])
    (tmp_path / "new.csv").write_text("item_id,title,text\ni1,A,red\n")
    with pytest.raises(DataError, match="no new item"):
        add(run, tmp_path / "new.csv", QUIET)
    with pytest.raises(DataError, match="does not exist"):
        add(run, tmp_path / "other.csv", QUIET)
    assert latest(run) == run / "index"
    assert not (run / FOLDER).exists() or not list((run / FOLDER).iterdir())


def test_generations_of_another_index_are_refused(run, tmp_path):
    write_items(tmp_path / "new.csv", texts_of(5, seed=1))
    add(run, tmp_path / "new.csv", QUIET)
    living_run.write_index(run, codes_per_level=CODES - 1)
    message = f"generations/2 was made from index .*Move {run / FOLDER} away"
    for read in (lineage, latest, lambda folder: remove(folder, ["i1"])):
        with pytest.raises(ArtifactError, match=message):
            read(run)


def test_the_items_of_an_older_index_can_be_added_to_a_new_one(run, tmp_path, caplog):
    """As the message about another index says."""
    write_items(tmp_path / "new.csv", texts_of(5, seed=1))
    add(run, tmp_path / "new.csv", QUIET)
    living_run.write_index(run, codes_per_level=CODES - 1)
    moved = (run / FOLDER).rename(tmp_path / "moved")
    folder = add(run, moved / "2" / "catalog.parquet", QUIET)
    assert Catalog.load(folder).table.equals(Catalog.load(moved / "2").table)


def test_a_damaged_quantizer_is_refused_whatever_generations_there_are(run, tmp_path):
    write_items(tmp_path / "a.csv", texts_of(5, seed=1))
    write_items(tmp_path / "b.csv", texts_of(5, seed=2), start=5)
    add(run, tmp_path / "a.csv", QUIET)
    path = run / "index" / "quantizer.safetensors"
    path.write_bytes(path.read_bytes()[:-100] + bytes(100))
    with pytest.raises(ArtifactError, match=r"quantizer\.safetensors"):
        add(run, tmp_path / "b.csv", QUIET)


def test_codes_that_only_items_without_training_events_carry_are_not_known():
    index = ItemIndex(np.array([[0, 1], [2, 1], [1, 0]], dtype=np.int32), (3, 2), {})
    known = codes_in_use(index, np.array([4, 0, 1]))
    assert [level.tolist() for level in known] == [[True, True, False], [True, True]]
    # With no event at all nothing can be told apart, so all that is carried counts.
    for counts in (None, np.zeros(3, dtype=np.int64)):
        assert [level.all() for level in codes_in_use(index, counts)] == [True, True]


def test_a_gap_in_the_chain_is_refused(run, tmp_path):
    remove(run, ["i1"])
    remove(run, ["i2"])
    shutil.rmtree(run / FOLDER / "2")
    with pytest.raises(ArtifactError, match="a generation is gone"):
        latest(run)


def test_what_is_no_generation_is_passed_over(run):
    remove(run, ["i1"])
    for name in ("3.partial", "notes", "2.old"):
        (run / FOLDER / name).mkdir()
    assert latest(run) == run / FOLDER / "2"


def test_a_damaged_generation_is_not_built_upon(run):
    folder = remove(run, ["i1"])
    (folder / "catalog.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match="changed or damaged"):
        remove(run, ["i2"])


def test_folders_that_do_not_belong_together_are_refused(run, tmp_path):
    write_items(tmp_path / "new.csv", texts_of(5, seed=1))
    text.run(run, Recipe(embed=EmbedConfig(dimensions=4)), QUIET)
    with pytest.raises(ArtifactError, match="made from text .* of another space.*genrec run"):
        add(run, tmp_path / "new.csv", QUIET)
    living_run.write_dataset(run / "dataset", texts_of(ITEMS, seed=9))
    with pytest.raises(ArtifactError, match="made from dataset"):
        add(run, tmp_path / "new.csv", QUIET)


def without(run, *names):
    """Write the index again without some files, and without text as input."""
    kept = [path for path in (run / "index").iterdir() if not path.name.startswith(names)]
    files = {path.name: path.read_bytes() for path in kept if path.name != "manifest.json"}
    inputs = {name: run / name for name in ("dataset", "text") if name not in names}
    with artifacts.writing(run / "index", "index", inputs=inputs) as partial:
        for name, content in files.items():
            (partial / name).write_bytes(content)


def test_an_index_that_cannot_encode_new_items_says_so(run, tmp_path):
    write_items(tmp_path / "new.csv", texts_of(5, seed=1))
    without(run, "fusion")
    with pytest.raises(ArtifactError, match="run the index stage again"):
        add(run, tmp_path / "new.csv", QUIET)
    without(run, "text")
    with pytest.raises(ConfigError, match="made without text vectors"):
        add(run, tmp_path / "new.csv", QUIET)
    without(run, "quantizer")
    with pytest.raises(ConfigError, match="cannot encode an item that comes later"):
        add(run, tmp_path / "new.csv", QUIET)
    # Items can go and come back all the same.
    first = codes_by_id(run, run / "index")
    remove(run, ["i1"])
    (tmp_path / "back.csv").write_text("item_id,title,text\ni1,T,any\n")
    assert codes_by_id(run, add(run, tmp_path / "back.csv", QUIET)) == first


def test_a_run_without_an_index_names_what_is_missing(tmp_path):
    for act in (lambda run: add(run, tmp_path / "x.csv", QUIET), latest,
                lambda run: remove(run, ["a"])):  # fmt: skip
        with pytest.raises(ArtifactError, match="index does not exist"):
            act(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_one_writer_at_a_time(run, tmp_path):
    write_items(tmp_path / "new.csv", texts_of(5, seed=1))
    code = (
        "import sys, time; from pathlib import Path; from genrec.run_folder import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(run)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ArtifactError, match=f"being written by another.*{other.pid}"):
            add(run, tmp_path / "new.csv", QUIET)
        with pytest.raises(ArtifactError, match="being written by another"):
            remove(run, ["i1"])
        other.kill()
    with locked(run):
        pass
    add(run, tmp_path / "new.csv", QUIET)


def test_texts_are_made_as_the_data_stage_made_them(tmp_path):
    run = tmp_path / "shop"
    run.mkdir()
    rng = np.random.default_rng(0)
    names = [f"p{number:02d}" for number in range(30)]
    rows = [
        f"{name},Thing {rng.choice(30)},{genres},9"
        for name, genres in zip(names, texts_of(30, seed=0), strict=True)
    ]
    (tmp_path / "items.csv").write_text("\n".join(["asin,name,genres,price", *rows]) + "\n")
    events = [f"u{time % 20},{rng.choice(names)},{time}" for time in range(200)]
    (tmp_path / "events.csv").write_text("\n".join(["user_id,item_id,timestamp", *events]) + "\n")
    paths = {"path": str(tmp_path / "events.csv"), "items_path": str(tmp_path / "items.csv")}
    recipe = Recipe(data=DataConfig(core=0, **paths), embed=EmbedConfig(dimensions=8))
    keep_recipe(run, recipe)
    prepare.run(run, recipe, QUIET)
    text.run(run, recipe, QUIET)
    living_run.write_index(run)
    (tmp_path / "new.csv").write_text(
        "asin,name,genres,price,description\nq1,Thing 7,red wool,5,never read\n"
    )
    catalog = Catalog.load(add(run, tmp_path / "new.csv", QUIET))
    assert catalog.table.row(-1, named=True) == {
        "item_id": "q1", "title": "Thing 7", "text": "Thing 7, red wool", "name": "Thing 7",
        "genres": "red wool", "price": "5",
    }  # fmt: skip
