from importlib.util import find_spec

import pytest

from tests.tiny_run import invoke, tiny


def pytest_collection_modifyitems(items):
    """Skip what needs vLLM where it is not installed; it has an environment of its own."""
    if find_spec("vllm") is None:
        reason = pytest.mark.skip(reason="vLLM is not installed; see docs/vllm.md")
        for item in items:
            if item.get_closest_marker("vllm"):
                item.add_marker(reason)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """Return a finished tiny run, made by the command itself; a test that changes it copies it."""
    # Brackets and blanks are part of the name, so that every test of a run meets them.
    folder = tmp_path_factory.mktemp("runs") / "tiny [run] 1*"
    result = invoke("run", "quickstart-fast", "--run", folder, "--quiet", *tiny())
    assert result.exit_code == 0, result.output
    return folder
