import pytest

from tests.tiny_run import invoke, tiny


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """Return a finished tiny run, made by the command itself; a test that changes it copies it."""
    # Brackets and blanks are part of the name, so that every test of a run meets them.
    folder = tmp_path_factory.mktemp("runs") / "tiny [run] 1*"
    result = invoke("run", "quickstart-fast", "--run", folder, "--quiet", *tiny())
    assert result.exit_code == 0, result.output
    return folder
