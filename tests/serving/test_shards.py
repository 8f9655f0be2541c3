import numpy as np

from genrec.data.ranking import Ranking
from genrec.serving.shards import Shards


def rankings():
    return [
        Ranking(np.array([3, 1], np.int32), np.array([0.5, -2.25], np.float32)),
        Ranking(np.zeros(0, np.int32), np.zeros(0, np.float32)),
        Ranking(np.array([7], np.int32), np.array([1.0], np.float32)),
    ]


def test_a_piece_comes_back_as_it_was(tmp_path):
    Shards(tmp_path / "c", {"k": 1}).save("a", rankings(), 1.25)
    found, seconds = Shards(tmp_path / "c", {"k": 1}).load("a")
    assert seconds == 1.25
    assert [r.items.tolist() for r in found] == [[3, 1], [], [7]]
    assert [r.scores.tolist() for r in found] == [[0.5, -2.25], [], [1.0]]
    assert Shards(tmp_path / "c", {"k": 1}).load("b") is None


def test_a_piece_of_another_job_is_never_read(tmp_path):
    Shards(tmp_path / "c", {"k": 1}).save("a", rankings(), 1.0)
    foreign = (tmp_path / "c" / "a.safetensors").read_bytes()
    other = Shards(tmp_path / "c", {"k": 2})
    assert other.load("a") is None
    assert not (tmp_path / "c" / "a.safetensors").exists()
    (tmp_path / "c" / "a.safetensors").write_bytes(foreign)
    assert other.load("a") is None


def test_a_torn_piece_is_computed_again_and_said(tmp_path, caplog):
    shards = Shards(tmp_path / "c", {"k": 1})
    shards.save("a", rankings(), 1.0)
    path = tmp_path / "c" / "a.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    assert shards.load("a") is None
    assert "its part is computed again" in caplog.text
    path.write_bytes(b"")
    assert shards.load("a") is None


def test_a_finished_job_leaves_nothing(tmp_path):
    shards = Shards(tmp_path / "c", {})
    shards.save("a", rankings(), 1.0)
    shards.remove()
    assert list(tmp_path.iterdir()) == []
