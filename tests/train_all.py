"""``torchrun -m tests.train_all RUN ...``: train every run, one after the other, in processes."""

import sys
from pathlib import Path

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from genrec import processes
from genrec.pipeline import run_stage, runtime_of
from genrec.run_folder import read_recipe
from genrec.runtime import start_logging


def let_cpus_hold_pieces() -> None:
    """Accelerate cuts weights in pieces on accelerators only; torch can do so on CPUs as well."""
    original = AcceleratorState.__init__

    def start(self, *arguments, fsdp_plugin=None, **settings):
        original(self, *arguments, fsdp_plugin=fsdp_plugin, **settings)
        if fsdp_plugin is not None:
            self.distributed_type = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin
            PartialState._shared_state["distributed_type"] = self.distributed_type

    AcceleratorState.__init__ = start


if __name__ == "__main__":
    start_logging()
    if processes.sharding() == processes.IN_PIECES:
        let_cpus_hold_pieces()
    for folder in map(Path, sys.argv[1:]):
        recipe = read_recipe(folder)
        run_stage("train", folder, recipe, runtime_of(recipe, quiet=True))
