"""The report page in a real browser without network: it draws, sorts, switches and turns, and says nothing on its
console."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browser_pages import MIDDLE, Opened, started_browser
from in_process import run
from report_runs import bumpy_sphere, cell, small_run, write_run
from shapewright import Mesh
from shapewright.report.display_mesh import encode


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started_browser() as started:
        yield started


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small_run(tmp_path_factory.mktemp("report") / "run")
    assert run("report", folder).returncode == 0
    return folder / "report.html"


@pytest.fixture
def opened(browser: Any, page_file: Path) -> Iterator[Opened]:
    found = Opened(browser, page_file)
    yield found
    found.context.close()
    assert found.complaints == []
    assert [url for url in found.requests if not url.startswith(("file:", "data:"))] == []


def test_meshes_are_drawn_when_scrolled_to(opened: Opened) -> None:
    assert opened.page.locator("canvas[data-drawn]").count() == 0
    seen = opened.seen(opened.canvas())
    assert seen["share"] > 0.9
    assert seen["colours"] > 20, "a shaded ball, not one flat colour"


def test_a_heading_sorts_up_and_down_by_mouse_and_keyboard(opened: Opened) -> None:
    heading = opened.page.locator("#summary thead th", has_text="CD-L1")
    column = opened.page.locator("#summary tbody td:nth-of-type(3)")

    def values() -> list[float]:
        return [float(text) for text in column.evaluate_all("cells => cells.map(cell => cell.dataset.value)")]

    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert values() == sorted(values())
    heading.locator("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert values() == sorted(values(), reverse=True)
    assert opened.page.locator("#summary [aria-sort=ascending]").count() == 0


def test_switching_the_resolution_changes_views_and_plots(opened: Opened) -> None:
    canvas = opened.canvas(0, 1)
    assert "resolution 32" in canvas.get_attribute("aria-label")
    before = opened.seen(canvas)["sum"]
    opened.page.locator("#shapes [data-resolutions] button", has_text="16").click()
    canvas = opened.canvas(0, 1)
    assert "resolution 16" in canvas.get_attribute("aria-label")
    assert opened.seen(canvas)["sum"] != before
    assert "R 16" in opened.page.locator("#plots-drawn").inner_text()
    pressed = opened.page.locator("[data-resolutions] button[aria-pressed=true]").all_inner_texts()
    assert pressed == ["16", "16"]


@pytest.mark.parametrize(("name", "view"), [("boundary", 2), ("back", 2), ("errors", 1)])
def test_what_is_switched_on_changes_the_picture_and_back(opened: Opened, name: str, view: int) -> None:
    canvas = opened.canvas(0, view)
    canvas.focus()
    for _ in range(4):
        canvas.press("ArrowDown")  # look down through the hole of the second pipeline's result
    before = opened.seen(canvas)["sum"]
    switch = opened.page.locator(f"#show-{name}")
    switch.click()
    assert opened.seen(canvas)["sum"] != before
    assert opened.page.locator("#scale").is_visible() == (name == "errors")
    switch.press("Space")
    assert opened.seen(canvas)["sum"] == before


def test_views_of_one_shape_turn_together_by_keyboard_and_mouse(opened: Opened) -> None:
    views = [opened.canvas(0, view) for view in (0, 1)]
    before = [opened.seen(view)["sum"] for view in views]
    views[0].press("ArrowRight")
    turned = [opened.seen(view)["sum"] for view in views]
    assert all(one != other for one, other in zip(before, turned, strict=True))
    views[0].press("+")
    zoomed = [opened.seen(view)["sum"] for view in views]
    assert all(one != other for one, other in zip(turned, zoomed, strict=True))
    views[0].press("Home")
    assert [opened.seen(view)["sum"] for view in views] == before
    box = views[1].bounding_box()
    opened.page.mouse.move(box["x"] + 60, box["y"] + 60)
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + 100, box["y"] + 90)
    opened.page.mouse.up()
    assert opened.seen(views[0])["sum"] != before[0]


def test_views_can_be_reached_by_tab(opened: Opened) -> None:
    opened.canvas()
    opened.page.locator("#filter").focus()
    opened.page.keyboard.press("Tab")
    assert "Reference ball" in opened.page.evaluate("document.activeElement.getAttribute('aria-label')")


def test_a_failed_cell_is_shown_with_its_reason(opened: Opened) -> None:
    assert opened.page.locator(".failures").inner_text().count("out of <wool> & yarn") == 1
    opened.canvas(1)
    assert "out of <wool> & yarn" in opened.page.locator("#shape-1 .picture.failed").inner_text()


def test_pipelines_and_shapes_can_be_left_out(opened: Opened) -> None:
    opened.canvas()
    opened.page.locator("#legend button", has_text="beta").click()
    opened.canvas()
    assert opened.page.locator("#shape-0 canvas").count() == 2
    assert opened.page.locator("#plots-drawn title", has_text="beta").count() == 0
    opened.page.locator("#filter").fill("egg")
    assert opened.page.locator("#shape-0").is_hidden()
    assert opened.page.locator("#shape-1").is_visible()
    assert opened.page.locator("#found").inner_text() == "1 of 2 shapes"


def test_every_cell_has_a_row_that_leads_to_its_views(opened: Opened) -> None:
    opened.page.locator("#cells summary").press("Enter")  # a click may miss what views above move while they are drawn
    opened.page.wait_for_selector("#cells tbody tr")
    rows = opened.page.locator("#cells tbody tr")
    assert rows.count() == 8
    assert rows.filter(has_text="✕ RuntimeError").count() == 1
    rows.first.locator("a").click()
    assert opened.page.url.endswith("#shape-0")
    assert "resolution 16" in opened.canvas(0, 1).get_attribute("aria-label")


def test_plots_have_a_mark_for_every_figure(opened: Opened) -> None:
    plots = opened.page.locator("#plots-drawn svg")
    assert plots.count() == 4
    for plot in range(3):
        assert plots.nth(plot).locator("path title").count() == 4
    assert plots.nth(3).locator("path title").count() == 3, "the failed cell has no figure"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_have_enough_contrast(browser: Any, page_file: Path, scheme: str) -> None:
    found = Opened(browser, page_file, color_scheme=scheme)
    colours = found.page.evaluate(
        """() => ["body", ".lead", ".interval", ".failures summary", ".tags", "#legend button"].map(place => {
            const node = document.querySelector(place), own = getComputedStyle(node);
            return [place, own.color, getComputedStyle(document.body).backgroundColor];
        })"""
    )

    def luminance(text: str) -> float:
        channels = [int(part) / 255 for part in text.partition("(")[2].rstrip(")").split(",")[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for place, ink, paper in colours:
        assert (luminance(paper) < 0.5) == (scheme == "dark")
        low, high = sorted((luminance(ink), luminance(paper)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (place, ink, paper)
    found.context.close()


def test_a_phone_needs_no_scrolling_sideways(browser: Any, page_file: Path) -> None:
    found = Opened(browser, page_file, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    assert found.seen(found.canvas())["share"] > 0.9
    assert found.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert found.complaints == []
    found.context.close()


def test_tables_are_complete_without_script(browser: Any, page_file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert page.locator("#summary tbody tr").count() == 4
    assert page.locator("noscript").is_visible()
    context.close()


def test_without_webgl_the_rest_works_and_views_say_why(browser: Any, page_file: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page.goto(page_file.as_uri())
    page.locator("#shape-0").scroll_into_view_if_needed()
    page.wait_for_selector("#shape-0 .picture.empty")
    assert "WebGL" in page.locator("#shape-0 .picture.empty").first.inner_text()
    assert page.locator("#plots-drawn svg").count() == 4
    context.close()


def test_a_damaged_mesh_says_so_in_its_place(browser: Any, page_file: Path, tmp_path: Path) -> None:
    text = page_file.read_text(encoding="utf-8")
    start = text.index('id="view-0">') + len('id="view-0">')
    (tmp_path / "damaged.html").write_text(text[:start] + "AAAA" + text[start + 40 :], encoding="utf-8")
    context = browser.new_context()
    page = context.new_page()
    page.goto((tmp_path / "damaged.html").as_uri())
    page.locator("#shape-0").scroll_into_view_if_needed()
    page.wait_for_selector("#shape-0 p.empty")
    assert "cannot be shown" in page.locator("#shape-0 p.empty").first.inner_text()
    context.close()


def test_two_thousand_cells_open_in_three_seconds(browser: Any, tmp_path: Path) -> None:
    blobs = [encode(bumpy_sphere(30 + k)) for k in range(9)]
    meshes = {f"views/{k}.swdm": blobs[k % 9] for k in range(2000)}
    cells = [
        cell(f"rep-{k % 5}+cubes", f"shape-{k // 20}", 16 << (k // 5 % 4), 0.1 / (1 + k % 17), view=place)
        | {"reference_view": f"views/{k // 20}.swdm"}
        for k, place in enumerate(meshes)
    ]
    folder = write_run(tmp_path / "run", cells, meshes)
    started = time.monotonic()
    assert run("report", folder).returncode == 0
    made = time.monotonic() - started
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        found = Opened(browser, folder / "report.html")
        seconds.append(time.monotonic() - started)
        assert found.seen(found.canvas(99))["share"] > 0.9
        assert found.complaints == []
        found.context.close()
    print(
        f"made in {made:.1f} s, opened in {min(seconds):.2f} s, {(folder / 'report.html').stat().st_size / 1e6:.1f} MB"
    )
    assert min(seconds) < 3


@pytest.mark.parametrize("size", [1e-3, 7, 4000])
def test_a_notebook_frame_draws_its_mesh(browser: Any, tmp_path: Path, size: float) -> None:
    sphere = bumpy_sphere(20)
    mesh = Mesh(torch.from_numpy(sphere.vertices * size + 5 * size), torch.from_numpy(sphere.faces))
    file = tmp_path / "notebook.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><body>{mesh._repr_html_()}", encoding="utf-8")
    context = browser.new_context(offline=True)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(file.as_uri())
    frame = page.frame_locator("iframe")
    frame.locator("canvas[data-drawn]").wait_for()
    seen = frame.locator("canvas").evaluate(MIDDLE)
    assert seen["share"] > 0.9
    assert seen["colours"] > 20
    assert complaints == []
    context.close()
