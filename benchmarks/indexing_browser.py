"""The report of an index in a browser: does it open, and does it ask for anything elsewhere?"""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from flow_runs import StepError, call, program

Row = dict[str, Any]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# What a browser does on its own account is switched off, so that all requests are the page's.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--hide-scrollbars", "--virtual-time-budget=15000",
    "--window-size=1300,4200",
)  # fmt: skip


# A page that does ask, so that a count of 0 means something.
ASKS = '<img src="http://127.0.0.1:9/a.png"><script>fetch("http://127.0.0.1:9/b")</script>'


def measure(run_folder: Path, screenshot: Path) -> list[Row]:
    """Write the report of a run, open it without a network and count its requests.

    Args:
        run_folder: A run that has an index.
        screenshot: Where to put the picture.

    Raises:
        StepError: When no browser is installed, or it fails.
    """
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        raise StepError(f"none of {', '.join(BROWSERS)} is installed; install one.")
    with tempfile.TemporaryDirectory() as temporary:
        page, control = Path(temporary) / "page.html", Path(temporary) / "control.html"
        call([program(), "index", "report", str(run_folder), "-o", str(page), "--quiet"])
        control.write_text(ASKS)
        requests = _open(browser, page, Path(temporary), f"--screenshot={screenshot}")
        asked = _open(browser, control, Path(temporary), f"--screenshot={temporary}/control.png")
        words = [browser, *FLAGS, f"--user-data-dir={temporary}/profile", "--dump-dom"]
        dom = subprocess.run(
            [*words, page.as_uri()], check=True, capture_output=True, timeout=120, text=True
        ).stdout
        size = page.stat().st_size
    return [
        {
            "table": "page",
            "megabytes": round(size / 1e6, 1),
            "external_requests": len(requests),
            "external_requests_of_a_page_that_asks_twice": len(asked),
            "pictures_drawn": dom.count('class="main-svg"'),
        }
    ]


def _open(browser: str, page: Path, folder: Path, picture: str) -> list[str]:
    """Show a page and return the addresses it asked for."""
    log = folder / f"{page.stem}.json"
    words = [browser, *FLAGS, f"--user-data-dir={folder}/profile", f"--log-net-log={log}", picture]
    subprocess.run([*words, page.as_uri()], check=True, capture_output=True, timeout=120)
    found = json.loads(log.read_text(encoding="utf-8"))
    start = found["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    started = [event["params"] for event in found["events"] if event["type"] == start
               and "url" in event.get("params", {})]  # fmt: skip
    # Requests without an origin are the browser's own.
    return [each["url"] for each in started if each.get("initiator") != "not an origin"]
