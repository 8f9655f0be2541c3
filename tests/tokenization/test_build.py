import doctest
import json
import shutil

import numpy as np
import pytest

from genrec import artifacts
from genrec.config import Recipe
from genrec.config_index import ClassicConfig, IndexConfig, RqVaeConfig
from genrec.embeddings.table import EmbeddingTable
from genrec.errors import ArtifactError, DataError
from genrec.runtime import Runtime
from genrec.semantic_ids.item_index import ItemIndex
from genrec.tokenization import build, methods
from genrec.tokenization.fusion import Fusion
from genrec.tokenization.methods import default_codes_per_level
from genrec.tokenization.residual_kmeans import ResidualKMeans
from tests.embeddings.item_dataset import write_dataset

N = 60
QUIET = Runtime(seed=7, quiet=True)


def write_vectors(run_folder, kind, vectors):
    name = {"cf": "items", "text": "vectors"}[kind]
    with artifacts.writing(
        run_folder / kind, kind, inputs={"dataset": run_folder / "dataset"}
    ) as partial:
        EmbeddingTable(vectors.astype(np.float32), {}).save(partial, name)


@pytest.fixture
def run_folder(tmp_path):
    write_dataset(tmp_path / "dataset", [""] * N)
    rng = np.random.default_rng(0)
    write_vectors(tmp_path, "text", rng.normal(size=(N, 6)))
    write_vectors(tmp_path, "cf", 50 * rng.normal(size=(N, 4)))
    return tmp_path


def recipe(**index):
    return Recipe(index=IndexConfig(**{"levels": 2, "codes_per_level": 8, **index}))


def test_the_folder_holds_the_index_the_quantizer_and_the_report(run_folder):
    folder = build.run(run_folder, recipe(), QUIET)
    manifest = artifacts.verify(folder, "index")
    assert folder == run_folder / "index"
    assert manifest.seed == 7
    assert manifest.config["levels"] == 2
    assert set(manifest.inputs) == {"dataset", "cf", "text"}
    assert set(manifest.files) == {
        "codes.safetensors",
        "index.json",
        "quantizer.safetensors",
        "quantizer.json",
        "fusion.safetensors",
        "fusion_guess.safetensors",
        "fusion.json",
        "quality.json",
        "quality.md",
    }
    index = ItemIndex.load(folder)
    assert len(index) == N
    assert index.facts["vectors"] == "concatenation"
    report = json.loads((folder / "quality.json").read_text())
    assert report["collisions_after"]["unique_tuples"] == N
    assert index.facts["items_moved"] == report["items_moved"]
    # The stored quantizer gives the codes back, apart from the items that moved.
    x = Fusion.load(folder).vectors
    codes = ResidualKMeans.load(folder).encode(x).codes
    np.testing.assert_array_equal(codes[:, 0], index.codes[:, 0])
    assert (codes[:, 1] != index.codes[:, 1]).sum() == report["items_moved"]


def test_the_same_seed_gives_the_same_folder_and_another_seed_does_not(run_folder):
    first = artifacts.read_manifest(build.run(run_folder, recipe(), QUIET)).digest
    again = artifacts.read_manifest(build.run(run_folder, recipe(), QUIET)).digest
    other = build.run(run_folder, recipe(), Runtime(seed=8, quiet=True))
    assert first == again
    assert artifacts.read_manifest(other).digest != first


@pytest.mark.parametrize(("vectors", "unread"), [("text", "cf"), ("cf", "text")])
def test_only_the_vectors_named_are_read(run_folder, vectors, unread):
    shutil.rmtree(run_folder / unread)
    folder = build.run(run_folder, recipe(vectors=vectors), QUIET)
    assert set(artifacts.read_manifest(folder).inputs) == {"dataset", vectors}
    with pytest.raises(ArtifactError, match=f"{unread} does not exist"):
        build.run(run_folder, recipe(vectors="concatenation"), QUIET)


def test_vectors_of_another_dataset_are_refused(run_folder):
    write_dataset(run_folder / "dataset", [""] * (N + 1))
    with pytest.raises(
        ArtifactError, match="text was made from dataset .* run `genrec embed` again"
    ):
        build.run(run_folder, recipe(vectors="text"), QUIET)


def test_vectors_that_are_all_zero_are_refused(run_folder):
    write_vectors(run_folder, "text", np.zeros((N, 3)))
    for vectors in ("text", "concatenation"):
        with pytest.raises(DataError, match="all 60 vectors of 'text' .* index.vectors: cf"):
            build.run(run_folder, recipe(vectors=vectors), QUIET)


def test_a_catalogue_of_one_text_gets_codes_of_its_own(run_folder):
    write_vectors(run_folder, "text", np.ones((N, 3)))
    index = ItemIndex.load(build.run(run_folder, recipe(vectors="text"), QUIET))
    # 60 items under one prefix of 8 codes: 8 places of 8.
    assert index.level_sizes == (8, 8, 8)
    assert len(np.unique(index.keys)) == N


def test_codes_per_level_follow_the_catalogue(run_folder):
    folder = build.run(run_folder, recipe(levels=None, codes_per_level=None), QUIET)
    assert ItemIndex.load(folder).level_sizes[:2] == (16, 16)


@pytest.mark.parametrize(
    ("items", "size"),
    [(1, 8), (25, 8), (26, 16), (102, 16), (103, 32), (409, 32), (410, 64), (1638, 64),
     (1639, 128), (6553, 128), (6554, 256), (10**7, 256)],
)  # fmt: skip
def test_default_size_of_a_codebook(items, size):
    assert default_codes_per_level(items) == size


def test_examples_in_the_docstring_hold():
    outcome = doctest.testmod(methods)
    assert outcome.attempted >= 1
    assert outcome.failed == 0


def test_eight_levels_of_256_codes_are_no_more_than_two_of_eight(run_folder):
    index = ItemIndex.load(build.run(run_folder, recipe(levels=8, codes_per_level=256), QUIET))
    assert index.level_sizes == (256,) * 8
    assert len(np.unique(index.codes, axis=0)) == N


@pytest.mark.parametrize("method", ["random", "independent", "title"])
def test_classic_methods_read_no_vectors(run_folder, method):
    shutil.rmtree(run_folder / "text")
    shutil.rmtree(run_folder / "cf")
    folder = build.run(run_folder, recipe(method=method), QUIET)
    assert set(artifacts.read_manifest(folder).inputs) == {"dataset"}
    index = ItemIndex.load(folder)
    assert index.facts["method"] == method
    assert len(np.unique(index.codes, axis=0)) == N
    assert not (folder / "quantizer.json").exists()


def test_the_policy_is_kept_with_the_index(run_folder):
    write_vectors(run_folder, "text", np.repeat(np.eye(6), 10, axis=0))
    shared = ItemIndex.load(
        build.run(run_folder, recipe(vectors="text", collisions="shared"), QUIET)
    )
    assert shared.shared
    assert shared.facts["collision_policy"] == "shared"
    assert shared.facts["items_sharing"] == N
    counted = ItemIndex.load(
        build.run(run_folder, recipe(vectors="text", collisions="extra_digit"), QUIET)
    )
    assert counted.level_sizes == (8, 8, 10)
    assert not counted.shared


def test_the_sections_of_methods_that_are_not_used_change_nothing(run_folder):
    plain = ItemIndex.load(build.run(run_folder, recipe(), QUIET)).codes
    other = recipe(rq_vae=RqVaeConfig(epochs=7), classic=ClassicConfig(clusters=3))
    np.testing.assert_array_equal(ItemIndex.load(build.run(run_folder, other, QUIET)).codes, plain)


def test_what_an_rq_vae_left_half_way_is_removed_at_the_end(run_folder):
    quick = RqVaeConfig(epochs=2, hidden=[8], dimensions=4, batch_size=16, minimum_usage=0)
    folder = build.run(run_folder, recipe(method="rq_vae", rq_vae=quick), QUIET)
    assert ItemIndex.load(folder).facts["method"] == "rq_vae"
    assert not (run_folder / "index.checkpoint").exists()
