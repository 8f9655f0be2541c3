"""What a training goes through."""

from genrec.model.generative import GenerativeModel
from genrec.training import train
from genrec.training.aids import Aids, objective_of
from genrec.training.learner import Learner
from genrec.training.lesson import history_lesson
from tests.training.world import RUNTIME, make_run, recipe


def test_a_history_as_long_as_serving_reads_is_followed_by_its_answer(
    tmp_path, cycle_dataset, small_index
):
    """The longest prompt must be trained: so many items are read, and one more is named."""
    run = make_run(tmp_path, cycle_dataset, small_index)
    settings = recipe(max_history=4, max_steps=1, evaluations=1, crop_probability=0.0)
    folder = train.run(run, settings, RUNTIME)
    model = GenerativeModel.load(folder, device=RUNTIME.torch_device())
    learner = Learner(model.language_model, model)
    objective = objective_of(learner, settings.train, Aids())
    lesson = history_lesson(model, objective, settings.train, cycle_dataset, RUNTIME)
    assert model.prompts.max_history == 4
    assert lesson.plan[0]["items"].shape[1] == 5
