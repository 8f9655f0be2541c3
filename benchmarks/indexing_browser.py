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
)  # fmt: skip


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
        page, log = Path(temporary) / "page.html", Path(temporary) / "net.json"
        call([program(), "index", "report", str(run_folder), "-o", str(page), "--quiet"])
        profile = f"--user-data-dir={temporary}/profile"
        shown = [f"--screenshot={screenshot}", "--window-size=1300,4200"]
        words = [browser, *FLAGS, profile, f"--log-net-log={log}", *shown, page.as_uri()]
        subprocess.run(words, check=True, capture_output=True, timeout=120)
        dom = subprocess.run(
            [browser, *FLAGS, profile, "--dump-dom", page.as_uri()],
            check=True, capture_output=True, timeout=120, text=True,
        ).stdout  # fmt: skip
        requests = _requests(log)
        size = page.stat().st_size
    outside = sorted(url for url in requests if url.startswith(("http:", "https:", "ws")))
    return [
        {
            "table": "page",
            "megabytes": round(size / 1e6, 1),
            "requests": len(requests),
            "external_requests": len(outside),
            "pictures_drawn": dom.count('class="main-svg"'),
            "first_external": outside[0] if outside else None,
        }
    ]


def _requests(log: Path) -> set[str]:
    """Return the addresses that a browser asked for."""
    events = json.loads(log.read_text(encoding="utf-8"))["events"]
    found = {event.get("params", {}).get("url") for event in events}
    return {url for url in found if isinstance(url, str)}
