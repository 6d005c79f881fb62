"""A page in headless Chromium: what its console says, how wide it is, and a picture of it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
)
NARROWEST = 500
"""No window is narrower, so pages are shown in a frame of the width that is asked for."""
PROBE = """<script>
addEventListener("load", () => {
  const images = [...document.images];
  const cut = [...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll")
    && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName);
  console.log("PROBE" + JSON.stringify({
    width: innerWidth, needed: document.documentElement.scrollWidth, height: document.body.scrollHeight,
    images: images.length, broken: images.filter(i => !i.complete || !i.naturalWidth).length, cut,
    small: images.filter(i => i.getBoundingClientRect().width < 200).length,
    text: document.body.innerText.length}));
});
</script></body>"""


class Look(NamedTuple):
    """What was seen: `probe` from inside the page, `errors` from the console, a PNG file."""

    probe: dict[str, Any]
    errors: list[str]
    picture: Path


def find_browser() -> str | None:
    """The browser's path, if there is one."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def look(browser: str, page: str, folder: Path, width: int, height: int = 3000) -> Look:
    """Open `page` in a frame of `width` pixels."""
    folder.mkdir()
    probed = html.escape(page.replace("</body>", PROBE))
    frame = f'<iframe style="border:0;width:{width}px;height:{height}px" srcdoc="{probed}"></iframe>'
    (folder / "page.html").write_text(f'<!doctype html><link rel="icon" href="data:,"><body style="margin:0">{frame}')
    picture = folder / "page.png"
    places = [f"--user-data-dir={folder}/profile", f"--screenshot={picture}", (folder / "page.html").as_uri()]
    size = f"--window-size={max(width, NARROWEST)},{height}"
    command = [browser, *FLAGS, size, *places]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    console = re.findall(r'CONSOLE[^"]*"(.*)", source', done.stderr)
    probes = [json.loads(line.removeprefix("PROBE")) for line in console if line.startswith("PROBE")]
    assert len(probes) == 1, done.stderr
    return Look(probes[0], [line for line in console if not line.startswith("PROBE")], picture)
