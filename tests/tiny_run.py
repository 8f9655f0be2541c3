from typer.testing import CliRunner

from genrec.cli import app

# A store and models so small that the whole flow takes seconds.
TINY = [
    "data.store.users=60", "data.store.items=40", "data.core=0",
    "cf.dimensions=8", "cf.layers=1", "cf.epochs=1", "embed.dimensions=8",
    "index.levels=2", "index.codes_per_level=8",
    "train.language_model=", "train.scratch.hidden=16", "train.scratch.layers=1",
    "train.scratch.heads=2", "train.scratch.feed_forward=32", "train.max_steps=4",
    "train.evaluations=1", "train.validation_users=20", "recommend.beam=10", "recommend.k=10",
    "recommend.users=20", "evaluate.bootstrap=10", "runtime.threads=1", "runtime.dtype=float32",
]  # fmt: skip


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def tiny(*overrides):
    return [part for override in (*TINY, *overrides) for part in ("--set", override)]


def trained(folder, *overrides):
    """Run the flow up to a trained model and return the run folder.

    Args:
        folder: The run folder.
        overrides: More keys of the recipe, as ``key=value``.
    """
    done = invoke(
        "run", "quickstart-fast", "--run", folder, "--until", "train", "-q", *tiny(*overrides)
    )
    assert done.exit_code == 0, done.stderr
    return folder
