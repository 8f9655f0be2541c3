"""``torchrun -m tests.train_all RUN ...``: train every run, one after the other, in processes."""

import sys
from pathlib import Path

from genrec.pipeline import run_stage, runtime_of
from genrec.run_folder import read_recipe
from genrec.runtime import start_logging

if __name__ == "__main__":
    start_logging()
    for folder in map(Path, sys.argv[1:]):
        recipe = read_recipe(folder)
        run_stage("train", folder, recipe, runtime_of(recipe, quiet=True))
