"""The errors genrec raises on purpose.

Every message says what was given, what was expected and what to do next::

    GenRecError
    |-- ConfigError       a recipe or a command-line override is wrong
    |-- DataError         an input file or table cannot be used
    |-- ArtifactError     a folder of a run is missing, damaged or of another run
    |-- RequestError      a recommendation was asked for in a way that cannot be answered
    `-- DependencyError   an optional package or a model is not installed or reachable
"""

# What Python, PyTorch and CUDA say when memory runs out.
_SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")


class GenRecError(Exception):
    """Anything genrec refuses to do; the message says why and what to do."""


class ConfigError(GenRecError):
    """A recipe or a command-line override is wrong."""


class DataError(GenRecError):
    """An input file or table cannot be used."""


class ArtifactError(GenRecError):
    """A folder of a run is missing, damaged or belongs to another run."""


class RequestError(GenRecError):
    """A recommendation was asked for in a way that cannot be answered."""


class DependencyError(GenRecError):
    """An optional package or a model is not installed or reachable."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error of Python or of a library means that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)
