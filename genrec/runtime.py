"""Where and how things run: seed, device, number type, threads, logging."""

import logging
import os
import random
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from genrec import processes
from genrec.errors import ConfigError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Runtime:
    """What a stage needs to know about the machine it runs on.

    Attributes:
        seed: Seed of every random number of the run.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps`` or ``auto`` (the best there is).
        dtype: ``float32``, ``bfloat16`` or ``auto`` for language models that are loaded and for the
            scores that SASRec learns from.
        threads: CPU threads; 0 takes what torch takes.
        quiet: No progress bars.
        engine: What runs language models when they recommend: ``torch`` or ``vllm``.
    """

    seed: int = 42
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 0
    quiet: bool = False
    engine: str = "torch"

    def torch_device(self) -> "torch.device":
        """Return the device to compute on.

        Raises:
            ConfigError: When the named device is not on this machine.
        """
        import torch

        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
        except RuntimeError as error:
            raise ConfigError(
                f"there is no device {self.device!r}, expected auto, cpu, cuda, cuda:N or mps."
            ) from error
        present = {
            "cpu": 1,
            "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
            "mps": int(torch.backends.mps.is_available()),
        }
        if device.type not in present:
            raise ConfigError(
                f"genrec does not run on device {self.device!r}, expected auto, cpu, cuda, cuda:N "
                "or mps."
            )
        if (device.index or 0) >= present[device.type]:
            raise ConfigError(
                f"device {self.device!r} was asked for, but torch sees {present[device.type]} "
                f"devices of type {device.type}; use device: auto or cpu."
            )
        return device

    def torch_dtype(self) -> "torch.dtype":
        """Return the number type for language models: bfloat16 where the device is fast at it."""
        import torch

        if self.dtype == "float32":
            return torch.float32
        if self.dtype == "bfloat16" or self.torch_device().type == "cuda":
            return torch.bfloat16
        return torch.bfloat16 if cpu_has_bfloat16() else torch.float32

    def start(self) -> None:
        """Set threads and seed the global generators of Python, NumPy and torch."""
        import numpy as np
        import torch

        if self.threads:
            torch.set_num_threads(self.threads)
        if processes.count() > 1 and self.torch_device().type == "cuda":
            # A launcher may let each process see one GPU alone.
            torch.cuda.set_device(processes.place_on_machine() % torch.cuda.device_count())
        random.seed(self.seed)
        np.random.seed(self.seed)  # noqa: NPY002 - libraries below still read the global one
        torch.manual_seed(self.seed)


def require_processes_for(verb: str) -> None:
    """Refuse processes that a launcher started for a stage that cannot share its work.

    Raises:
        ConfigError: When a launcher such as accelerate's or torchrun started several for another
            stage than ``train``, or cuts the weights in pieces.
    """
    if processes.count() > 1 and verb != "train":
        raise ConfigError(
            f"a launcher started {processes.count()} processes, but of all stages only `genrec "
            f"train` shares its work among several. Run `genrec {verb}` without a launcher, "
            "and then launch `genrec train`."
        )
    what = processes.sharding()
    known = (None, processes.IN_PIECES, processes.DEEPSPEED)
    if what not in known or (what is not None and processes.count() == 1):
        raise ConfigError(
            f"the launcher asks for {what} with {processes.count()} processes. Several processes "
            f"can hold the weights in pieces with {processes.IN_PIECES} (fsdp_version: 2, "
            "configs/accelerate/fsdp.yaml), and the optimizer with DeepSpeed "
            "(configs/accelerate/deepspeed.yaml); else launch it with distributed_type: 'NO' or "
            "MULTI_GPU. To save memory, set train.lora.quantize or train.gradient_checkpointing."
        )
    if what == processes.DEEPSPEED and find_spec("deepspeed") is None:
        raise ConfigError(
            "the launcher asks for DeepSpeed, which is not installed; "
            "run: pip install 'genrec[deepspeed]'"
        )


def cpu_has_bfloat16() -> bool:
    """Tell whether the CPU has bfloat16 instructions (AVX512-BF16, AMX or Arm BF16)."""
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="ignore") as handle:
            flags = handle.read()
    except OSError:
        return False
    return capability != "DEFAULT" and any(
        name in flags for name in ("avx512_bf16", "amx_bf16", " bf16")
    )


class _StandardError(logging.Handler):
    """Writes to standard error as it is at that moment: progress bars put lines above them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        sys.stderr.write(self.format(record) + "\n")
        sys.stderr.flush()


def start_logging(verbose: bool = False) -> None:
    """Log to standard error, one line an event; third-party libraries only when they warn.

    Of several processes that a launcher started, all but the first say only what is wrong.
    """
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=[_StandardError()],
    )
    usual = logging.INFO if processes.is_first() else logging.WARNING
    logging.getLogger("genrec").setLevel(logging.DEBUG if verbose else usual)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
