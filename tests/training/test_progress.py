import logging

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from genrec.training.progress import TrainingProgress


def drive(progress, tmp_path):
    """Send what the trainer sends in a training of four steps with one validation."""
    arguments, control = TrainingArguments(output_dir=str(tmp_path)), TrainerControl()
    state = TrainerState()
    with progress:
        for step in range(1, 5):
            state.global_step = step
            progress.on_step_end(arguments, state, control)
            if step == 2:
                logs = {"loss": 3.14159, "grad_norm": 1.0, "tokens_per_second": 12345.6}
                progress.on_log(arguments, state, control, logs=logs)
        progress.on_log(
            arguments, state, control, logs={"eval_loss": 2.5, "eval_ndcg@10": 0.125, "epoch": 1.0}
        )
        progress.on_log(arguments, state, control, logs={"train_runtime": 1.0})


def test_quiet_shows_nothing_but_one_log_line_a_validation(tmp_path, capsys, caplog):
    with caplog.at_level(logging.INFO, logger="genrec"):
        drive(TrainingProgress(4, quiet=True), tmp_path)
    assert caplog.messages == [
        "step 4 of 4: loss 3.142, validation loss 2.500, NDCG@10 0.1250, 12,346 tokens/s"
    ]
    assert capsys.readouterr() == ("", "")


def test_where_no_bar_moves_a_line_comes_every_half_minute(tmp_path, caplog):
    now = [0.0]
    progress = TrainingProgress(200, quiet=False, clock=lambda: now[0])
    arguments, control = TrainingArguments(output_dir=str(tmp_path)), TrainerControl()
    state = TrainerState()
    with caplog.at_level(logging.INFO, logger="genrec"), progress:
        for step in range(1, 7):
            now[0] += 20
            state.global_step = step
            progress.on_step_end(arguments, state, control)
            if step == 5:
                progress.on_log(arguments, state, control, logs={"eval_loss": 2.5})
    # Twenty seconds a step, 198 and 196 steps to go; the validation's line puts the next one off.
    assert caplog.messages == [
        "Training: step 2 of 200, about 66 min left",
        "Training: step 4 of 200, about 65 min left",
        "step 5 of 200: validation loss 2.500",
    ]


def test_the_bar_goes_to_standard_error(tmp_path, capsys):
    drive(TrainingProgress(4, quiet=False), tmp_path)
    output, messages = capsys.readouterr()
    assert output == ""
    assert "4/4" in messages and "loss 3.142" in messages


@pytest.mark.parametrize("message", ["mtime may not be reliable on this filesystem", "other"])
def test_only_the_remark_on_checkpoint_times_is_kept_back(tmp_path, message):
    library = logging.getLogger("transformers.trainer_utils")
    record = library.makeRecord(library.name, logging.WARNING, "", 0, message, (), None)
    with TrainingProgress(1, quiet=True):
        assert bool(library.filter(record)) is (message == "other")
    assert library.filter(record)
