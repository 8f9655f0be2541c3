import hashlib
import json

import pytest

from genrec import artifacts
from genrec.errors import ArtifactError


def make(folder, text="one", **options):
    with artifacts.writing(folder, options.pop("kind", "dataset"), **options) as partial:
        (partial / "a.txt").write_text(text)
        (partial / "inner").mkdir()
        (partial / "inner" / "b.bin").write_bytes(b"\x00\x01")
    return folder


def test_a_finished_folder_names_its_files_with_their_sha256(tmp_path):
    folder = make(tmp_path / "dataset", seed=3, config={"core": 5})
    manifest = artifacts.verify(folder, "dataset")
    assert manifest.files == {
        "a.txt": hashlib.sha256(b"one").hexdigest(),
        "inner/b.bin": hashlib.sha256(b"\x00\x01").hexdigest(),
    }
    assert (manifest.seed, manifest.config) == (3, {"core": 5})
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_nothing_is_left_when_writing_fails(tmp_path):
    with (
        pytest.raises(RuntimeError, match="disk"),
        artifacts.writing(tmp_path / "index", "index") as partial,
    ):
        (partial / "a.txt").write_text("half")
        raise RuntimeError("disk")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_rewrite_leaves_the_old_folder(tmp_path):
    folder = make(tmp_path / "index", "old", kind="index")
    with pytest.raises(RuntimeError), artifacts.writing(folder, "index"):
        raise RuntimeError
    assert (folder / "a.txt").read_text() == "old"
    artifacts.verify(folder)


def test_rewriting_replaces_the_folder_whole(tmp_path):
    folder = make(tmp_path / "index", "old", kind="index")
    with artifacts.writing(folder, "index") as partial:
        (partial / "c.txt").write_text("new")
    assert sorted(path.name for path in folder.iterdir()) == ["c.txt", "manifest.json"]


def test_the_digest_is_of_the_content_alone(tmp_path):
    first = artifacts.read_manifest(make(tmp_path / "a", facts={"seconds": 1})).digest
    same = artifacts.read_manifest(make(tmp_path / "b", facts={"seconds": 2})).digest
    other_text = artifacts.read_manifest(make(tmp_path / "c", "two")).digest
    other_kind = artifacts.read_manifest(make(tmp_path / "d", kind="cf")).digest
    assert first == same
    assert len({first, other_text, other_kind}) == 3


def test_inputs_are_recorded_by_kind_and_digest(tmp_path):
    dataset = make(tmp_path / "dataset")
    index = make(tmp_path / "index", kind="index", inputs={"dataset": dataset})
    assert artifacts.read_manifest(index).inputs == {
        "dataset": {"kind": "dataset", "digest": artifacts.read_manifest(dataset).digest}
    }


@pytest.mark.parametrize("name", ["a.txt", "inner/b.bin"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_every_damaged_file_is_found_and_named(tmp_path, name, damage):
    folder = make(tmp_path / "dataset")
    path = folder / name
    if damage == "flip":
        path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    with pytest.raises(ArtifactError, match=path.name):
        artifacts.verify(folder)


def test_a_swapped_folder_is_refused_by_kind(tmp_path):
    with pytest.raises(ArtifactError, match="'cf', expected a 'dataset'"):
        artifacts.verify(make(tmp_path / "dataset", kind="cf"), "dataset")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "dataset"}', '{"unknown": 1}', "null"])
def test_unreadable_manifests_are_refused(tmp_path, text):
    folder = make(tmp_path / "dataset")
    (folder / artifacts.MANIFEST_NAME).write_text(text)
    with pytest.raises(ArtifactError):
        artifacts.verify(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("files", ["a.txt"]),
        ("files", {"a.txt": 3}),
        ("config", 3),
        ("facts", None),
        ("inputs", []),
        ("inputs", {"dataset": "x"}),
        ("inputs", {"dataset": {"kind": "dataset"}}),
    ],
)
def test_manifests_of_another_shape_are_refused(tmp_path, key, value):
    folder = make(tmp_path / "dataset")
    path = folder / artifacts.MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ArtifactError, match=r"manifest\.json cannot be read.*of the kind"):
        artifacts.read_manifest(folder)


def test_another_format_number_is_refused(tmp_path):
    folder = make(tmp_path / "dataset")
    path = folder / artifacts.MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_number": 999}))
    with pytest.raises(ArtifactError, match="format 999"):
        artifacts.read_manifest(folder)


def test_missing_and_half_written_folders_are_told_apart(tmp_path):
    with pytest.raises(ArtifactError, match="does not exist"):
        artifacts.read_manifest(tmp_path / "index")
    (tmp_path / "index").mkdir()
    with pytest.raises(ArtifactError, match="half written"):
        artifacts.read_manifest(tmp_path / "index")
    assert not artifacts.exists(tmp_path / "index")


def test_files_get_the_rights_that_other_new_files_have(tmp_path):
    (tmp_path / "other").write_text("made by the same user")
    with artifacts.writing(tmp_path / "model", "model") as partial:
        (partial / "model.safetensors").write_text("weights")
        (partial / "model.safetensors").chmod(0o600)
    rights = [
        path.stat().st_mode for path in (tmp_path / "other", tmp_path / "model/model.safetensors")
    ]
    assert rights[0] == rights[1]
