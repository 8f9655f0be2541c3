"""What a stranger does first: the two commands of the README, and the checks, in a fresh clone."""

import re
import subprocess
import tempfile
from pathlib import Path

from flow_rows import Row, bar, figures
from flow_runs import StepError, call
from results_file import ROOT

CI_SECONDS = 15 * 60


def readme_commands(readme: str) -> tuple[str, str]:
    """Return the first two fenced bash blocks of the README: the main job and the tests.

    Raises:
        StepError: When there are not two.
    """
    blocks = re.findall(r"^```bash\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    if len(blocks) < 2:
        raise StepError(f"the README has {len(blocks)} fenced bash blocks, expected at least 2.")
    return blocks[0].strip(), blocks[1].strip()


def readme(root: Path = ROOT) -> list[Row]:
    """Run each command of the README in a fresh clone of its own; return the rows.

    A command that ends with an error is a missed bar, with its last words beside it.
    """
    rows: list[Row] = []
    commands = readme_commands((root / "README.md").read_text(encoding="utf-8"))
    for name, command in zip(("main job", "tests"), commands, strict=True):
        with tempfile.TemporaryDirectory() as temporary:
            clone = Path(temporary) / "genrec"
            subprocess.run(
                ["git", "clone", "--quiet", "--no-hardlinks", str(root), str(clone)], check=True
            )
            try:
                script = f'cd "$1" && {command}'
                seconds, words = (
                    call(["bash", "-euo", "pipefail", "-c", script, "-", str(clone)]),
                    "",
                )
            except StepError as error:
                seconds, words = None, str(error).replace(temporary, "CLONE")
        rows.append(
            figures("Commands", name=name, command_run=command, seconds=seconds, last_words=words)
        )
        rows.append(bar(f"{name}: passed, install included", int(not words), "==", 1))
    return rows


def ci(given_seconds: float | None, root: Path = ROOT) -> list[Row]:
    """Return the seconds of ``.ci/run``, measured or as they are given.

    Args:
        given_seconds: Seconds of a run that passed and was timed elsewhere; None runs it now.
        root: The checkout.

    Raises:
        StepError: When it does not pass.
    """
    if given_seconds is None:
        seconds, source = call([str(root / ".ci" / "run")]), "timed here"
    else:
        seconds, source = given_seconds, "given on the command line after a run that passed"
    return [
        figures("Run", seconds=round(seconds, 1), source=source),
        bar(".ci/run, all green", seconds, "<", CI_SECONDS, "seconds"),
    ]
