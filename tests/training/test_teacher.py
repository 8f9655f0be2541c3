"""The teacher's soft targets against a loop over items and prefixes."""

import numpy as np
import pytest
import torch

from genrec import artifacts
from genrec.cf.sasrec import SasRec
from genrec.cf.sasrec_ranker import SasRecRanker
from genrec.errors import ArtifactError
from genrec.runtime import Runtime
from genrec.semantic_ids.item_index import ItemIndex
from genrec.training.aids import load_teacher
from genrec.training.batches import IGNORED
from genrec.training.teacher import Teacher
from tests.training.world import total_loss

ITEMS = torch.tensor([[3, 7, 1, 23], [5, 2, IGNORED, IGNORED]])


def shared_index():
    """24 items behind 8 tuples: 4 x 2 codes, three items each."""
    rows = np.arange(24) % 8
    codes = np.stack([rows // 2, rows % 2], 1).astype(np.int32)
    return ItemIndex(codes, (4, 2), {}, shared=True)


@pytest.mark.parametrize("shared", [False, True])
def test_targets_equal_a_loop_over_items(shared, small_index, monkeypatch):
    """Items with the same codes count together: the codes cannot tell them apart."""
    small_index = shared_index() if shared else small_index
    torch.manual_seed(0)
    network = SasRec(24, dimensions=8, layers=1, heads=2, max_history=10).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    monkeypatch.setattr("genrec.training.teacher.SCORES_AT_ONCE", 50)
    targets = Teacher(network, small_index, torch.device("cpu")).targets(ITEMS)
    place = 0
    for row in ITEMS.tolist():
        items = [item for item in row if item != IGNORED]
        read, lengths = network.pad([np.asarray(items[:-1], dtype=np.int32)])
        with torch.no_grad():
            states = network(read, lengths)[0]
            probability = torch.softmax(network.scores(states), dim=1)
        for at, item in enumerate(items):
            prefix = small_index.codes_of(item)
            for level, size in enumerate(small_index.level_sizes):
                mass = np.zeros(size)
                for other in range(24):
                    codes = small_index.codes_of(other)
                    if codes[:level] == prefix[:level]:
                        mass[codes[level]] += float(probability[at, other])
                np.testing.assert_allclose(
                    targets[level][place].numpy(), mass / mass.sum(), atol=1e-5
                )
            place += 1
    assert [len(level) for level in targets] == [6, 6]


def test_a_student_of_the_teacher_alone_learns_its_distribution(small_index):
    """With all weight on the teacher the loss is lowest where the model equals the teacher."""
    from genrec.model.code_head import CodeHead
    from genrec.model.language_model import from_scratch, item_token_table
    from genrec.model.prompts import Prompts
    from genrec.training.objectives import Objective

    torch.manual_seed(1)
    network = SasRec(24, dimensions=8, layers=1, heads=2, max_history=10).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    teacher = Teacher(network, small_index, torch.device("cpu"))
    model, tokenizer, vocabulary = from_scratch(
        small_index, hidden=32, layers=2, heads=2, feed_forward=64, max_tokens=64
    )
    objective = Objective(
        model,
        CodeHead(model, vocabulary),
        Prompts.build("stream", 10, tokenizer),
        torch.from_numpy(item_token_table(vocabulary, small_index)),
        0,
        teacher=teacher,
        teacher_weight=1.0,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=6e-3)
    for _ in range(120):
        optimizer.zero_grad()
        total_loss(objective, ITEMS).backward()
        optimizer.step()
    entropy = sum(-(level * level.log()).sum(1).mean() for level in teacher.targets(ITEMS))
    assert float(total_loss(objective, ITEMS).detach()) == pytest.approx(float(entropy), abs=0.05)


def test_either_sasrec_of_a_run_is_the_teacher(tmp_path, small_index):
    with artifacts.writing(tmp_path / "cf", "cf") as partial:
        for name, share in (("sasrec", 0.0), ("transition_sasrec", 0.5)):
            torch.manual_seed(2)
            network = SasRec(
                24,
                dimensions=8,
                layers=1,
                heads=2,
                max_history=10,
                query_window=2,
                long_share=share,
            )
            for parameter in network.parameters():
                torch.nn.init.normal_(parameter, std=0.7)
            SasRecRanker(network, name).save(partial)
    runtime = Runtime(device="cpu", threads=1, quiet=True)
    plain, aware = (
        load_teacher(tmp_path / "cf", name, small_index, runtime).targets(ITEMS)
        for name in ("sasrec", "transition_sasrec")
    )
    wanted = Teacher(network.eval(), small_index, torch.device("cpu")).targets(ITEMS)
    for one, other, level in zip(plain, aware, wanted, strict=True):
        torch.testing.assert_close(other, level)
        assert not torch.allclose(one, other, atol=1e-3)


def test_a_teacher_that_was_not_fitted_is_told(tmp_path, small_index):
    with artifacts.writing(tmp_path / "cf", "cf") as partial:
        SasRecRanker(SasRec(24, dimensions=8)).save(partial)
    runtime = Runtime(device="cpu", threads=1, quiet=True)
    with pytest.raises(ArtifactError, match="holds no transition_sasrec; add it to cf.models"):
        load_teacher(tmp_path / "cf", "transition_sasrec", small_index, runtime)
