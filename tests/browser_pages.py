"""A browser without network, and pages opened in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

REQUIRED = os.environ.get("SHAPEWRIGHT_REQUIRE_BROWSER") == "1"
"""CI sets this: then a missing browser fails the tests instead of skipping them."""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SOFTWARE_DRAWING = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox")
MIDDLE = """canvas => {
    const box = [canvas.width >> 2, canvas.height >> 2, canvas.width >> 1, canvas.height >> 1];
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
    copy.drawImage(canvas, 0, 0);
    const data = copy.getImageData(...box).data, colours = new Set();
    let drawn = 0, sum = 0;
    for (let i = 0; i < data.length; i += 4) {
        drawn += data[i + 3] > 0;
        colours.add((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
        sum = (sum * 31 + data[i] + 7 * data[i + 1] + 13 * data[i + 2]) % 1000000007;
    }
    return {share: drawn / (data.length / 4), colours: colours.size, sum};
}"""


@contextmanager
def started_browser() -> Iterator[Any]:
    """Chromium; the test is skipped where it is not there, unless it is required."""
    if CHROMIUM is None:
        (pytest.fail if REQUIRED else pytest.skip)("no Chromium on this machine")
    if not REQUIRED:
        pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: test)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(SOFTWARE_DRAWING))
        yield started
        started.close()


class Opened:
    """A page in a context of its own, with everything that it complained about or asked for."""

    def __init__(self, browser: Any, file: Path, **context: Any) -> None:
        self.context = browser.new_context(offline=True, **({"viewport": {"width": 1280, "height": 900}} | context))
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("html[data-ready]", state="attached")

    def canvas(self, shape: int = 0, view: int = 0) -> Any:
        """A view, scrolled to and drawn."""
        self.page.locator(f"#shape-{shape}").scroll_into_view_if_needed()
        canvas = self.page.locator(f"#shape-{shape} canvas").nth(view)
        canvas.scroll_into_view_if_needed()
        self.page.wait_for_selector(f"#shape-{shape} figure:nth-child({view + 1}) canvas[data-drawn]")
        return canvas

    def seen(self, canvas: Any) -> dict[str, float]:
        """Share of drawn pixels, number of colours and a checksum of the middle of a view, once it has settled."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        found: dict[str, float] = canvas.evaluate(MIDDLE)
        return found
