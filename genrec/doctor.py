"""Look at this machine: what genrec needs, what is here, what to install."""

import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Literal

from genrec.runtime import cpu_has_bfloat16

Status = Literal["ok", "note", "broken"]

_OLDEST_PYTHON = (3, 11)
_LITTLE_MEMORY = 4.0
_LITTLE_DISK = 2.0
_GIBIBYTE = 2**30
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile", "bf16", "i8mm")
_IMPORTED = ("torch", "transformers", "peft", "polars", "faiss", "safetensors", "sklearn")
_OPTIONAL = (
    ("sentence_transformers", "text", "item vectors from sentence-transformers models"),
    ("PIL", "image", "item vectors from pictures"),
)
_MATMUL_SHAPE = (1024, 576, 1536)


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        status: ``ok``; ``note`` for what is missing but not needed; ``broken`` for what is needed.
        found: What is there.
        advice: What to do about it; empty when there is nothing to do.
    """

    name: str
    status: Status
    found: str
    advice: str = ""


def examine() -> list[Check]:
    """Run every check; takes a few seconds, most of them for imports."""
    checks: list[Check] = [_python(), Check("platform", "ok", platform.platform())]
    checks += _packages()
    checks += _imports()
    if not any(check.name == "import torch" and check.status == "broken" for check in checks):
        checks += [_torch(), _graphics(), _bfloat16()]
    checks += [_cpu_flags(), _memory(), _disk()]
    checks += _extras()
    checks.append(_language_model())
    return checks


def healthy(checks: list[Check]) -> bool:
    """Tell whether everything genrec needs is in order."""
    return all(check.status != "broken" for check in checks)


def _python() -> Check:
    found = platform.python_version()
    if sys.version_info[:2] < _OLDEST_PYTHON:
        return Check("python", "broken", found, "genrec needs Python 3.11 or newer.")
    return Check("python", "ok", found)


def _packages() -> Iterator[Check]:
    """Check that every required distribution is installed."""
    try:
        requirements = metadata.requires("genrec") or []
    except metadata.PackageNotFoundError:
        yield Check("packages", "broken", "genrec is not installed", "Run `pip install -e .`.")
        return
    names = [_distribution(line) for line in requirements if "extra ==" not in line]
    missing = [name for name in names if not _installed(name)]
    if missing:
        line = f"pip install {' '.join(missing)}"
        yield Check("packages", "broken", f"missing: {', '.join(missing)}", f"Run `{line}`.")
    else:
        yield Check("packages", "ok", f"all {len(names)} required packages are installed")


def _imports() -> Iterator[Check]:
    """Check that the large packages can be loaded: an installed one may still be broken."""
    for name in _IMPORTED:
        try:
            module = import_module(name)
        except (ImportError, OSError) as error:
            first = str(error).partition("\n")[0]
            yield Check(f"import {name}", "broken", first, f"Reinstall {name} with pip.")
        else:
            yield Check(f"import {name}", "ok", str(getattr(module, "__version__", "loaded")))


def _torch() -> Check:
    import torch

    cores = os.cpu_count() or 1
    found = f"{torch.__version__}, {torch.get_num_threads()} threads, {cores} cores"
    if torch.get_num_threads() < cores // 2:
        return Check("torch", "note", found, "Set runtime.threads, or unset OMP_NUM_THREADS.")
    return Check("torch", "ok", found)


def _graphics() -> Check:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Check("GPU", "ok", ", ".join(names))
    if torch.backends.mps.is_available():
        return Check("GPU", "ok", "Apple (runtime.device: mps)")
    advice = "Not needed for the quickstart; large models train many times faster on one."
    return Check("GPU", "note", "none that torch sees", advice)


def _bfloat16() -> Check:
    """Time one matrix product in both number types."""
    import torch

    rows, inner, columns = _MATMUL_SHAPE
    seconds = {
        dtype: _seconds_of(
            partial(
                torch.matmul,
                torch.ones(rows, inner, dtype=dtype),
                torch.ones(inner, columns, dtype=dtype),
            )
        )
        for dtype in (torch.float32, torch.bfloat16)
    }
    ratio = seconds[torch.bfloat16] / seconds[torch.float32]
    found = f"a CPU matrix product takes {ratio:.2f} times as long as in float32"
    chosen = "bfloat16" if cpu_has_bfloat16() else "float32"
    if (ratio > 1) == (chosen == "bfloat16"):
        other = "float32" if chosen == "bfloat16" else "bfloat16"
        advice = f"runtime.dtype auto takes {chosen} on the CPU; try runtime.dtype={other}."
        return Check("bfloat16", "note", found, advice)
    return Check("bfloat16", "ok", f"{found}; runtime.dtype auto takes {chosen} on the CPU")


def _seconds_of(product: Callable[[], object]) -> float:
    """Return the least of five times, after one call to warm up."""
    product()
    times = []
    for _ in range(5):
        started = time.perf_counter()
        product()
        times.append(time.perf_counter() - started)
    return min(times)


def _cpu_flags() -> Check:
    information = Path("/proc/cpuinfo")
    if not information.is_file():
        return Check("CPU", "ok", platform.machine())
    words = set(information.read_text(encoding="ascii", errors="ignore").split())
    found = [flag for flag in _CPU_FLAGS if flag in words]
    return Check("CPU", "ok", f"{platform.machine()}, {' '.join(found) or 'no vector flags'}")


def _memory() -> Check:
    available = _available_memory()
    if available is None:
        return Check("memory", "note", "unknown on this system")
    found = f"{available:.1f} GiB available"
    if available < _LITTLE_MEMORY:
        advice = "Close other programs, or take a smaller model and train.batch_tokens."
        return Check("memory", "note", found, advice)
    return Check("memory", "ok", found)


def _available_memory() -> float | None:
    information = Path("/proc/meminfo")
    if information.is_file():
        match = re.search(r"MemAvailable:\s+(\d+) kB", information.read_text(encoding="ascii"))
        return int(match[1]) * 1024 / _GIBIBYTE if match else None
    if {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= os.sysconf_names.keys():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _GIBIBYTE
    return None


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / _GIBIBYTE
    found = f"{free:.1f} GiB free in {Path.cwd()}"
    if free < _LITTLE_DISK:
        return Check("disk", "note", found, "A run with SmolLM2 needs about 2 GiB.")
    return Check("disk", "ok", found)


def _extras() -> Iterator[Check]:
    for module, extra, use in _OPTIONAL:
        if util.find_spec(module):
            yield Check(f"extra {extra}", "ok", f"{module} is installed: {use}")
        else:
            advice = f'Run `pip install "genrec[{extra}]"`.'
            yield Check(f"extra {extra}", "note", f"not installed: {use}", advice)


def _language_model() -> Check:
    try:
        from genrec.model.fetch import cached

        folder = cached("smollm2")
    except ImportError as error:
        return Check("smollm2", "broken", str(error), "Reinstall genrec.")
    if folder is None:
        return Check("smollm2", "note", "not in the cache", "Run `genrec model fetch smollm2`.")
    return Check("smollm2", "ok", str(folder))


def _distribution(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    return match[0] if match else requirement


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
