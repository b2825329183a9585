"""Materials in the report page, in a real browser: colours at places that are known, from both sides, seen through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser_pages import MIDDLE, Opened, started_browser
from in_process import run
from report_runs import bumpy_sphere, cell, write_run
from shapewright import Mesh, save_mesh
from shapewright.materials import Appearance, Material, Texture
from shapewright.report.display_mesh import encode
from shapewright.report.views import display_mesh

FIELD_OF_VIEW = np.radians(28)
YAW, PITCH, TURN = -0.6, 0.4, np.pi / 16
PIXEL = """(canvas, [x, y]) => {
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
    copy.drawImage(canvas, 0, 0);
    return [...copy.getImageData(Math.round(x * canvas.width), Math.round(y * canvas.height), 1, 1).data];
}"""
RED, GREEN, BLUE, WHITE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0)
SQUARE = [[-0.5, -0.5, 0.0], [0.5, -0.5, 0.0], [0.5, 0.5, 0.0], [-0.5, 0.5, 0.0]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started_browser() as started:
        yield started


def squares(*parts: tuple[float, Material], attributes: dict[str, torch.Tensor] | None = None) -> Mesh:
    """Unit squares facing +z at some heights; texture coordinates are 0 to 1 from the lower left."""
    heights = [height for height, _ in parts]
    vertices = torch.tensor([[x, y, z] for z in heights for x, y, _ in SQUARE], dtype=torch.float64)
    faces = torch.tensor([[4 * k + i for i in face] for k in range(len(parts)) for face in ([0, 1, 2], [0, 2, 3])])
    uvs = vertices[faces][:, :, :2].float() + 0.5
    rows = torch.arange(len(parts)).repeat_interleave(2)
    look = Appearance(tuple(material for _, material in parts), rows, (uvs,))
    return Mesh(vertices, faces, appearance=None if attributes else look, attributes=attributes or {})


class Shown(Opened):
    """A page of one mesh, whose colours can be asked for at points of space."""

    def __init__(self, browser: Any, folder: Path, mesh: Mesh, errors: bool = False) -> None:
        shown = display_mesh(mesh, (lambda points: np.full(len(points), 1e-3)) if errors else (lambda points: None))
        views = {"view": "views/m.swdm", "reference_view": "views/m.swdm"}
        run_folder = write_run(folder / "run", [cell("a+b", "shape", 8, 0.1, **views)], {"views/m.swdm": encode(shown)})
        assert run("report", run_folder).returncode == 0
        super().__init__(browser, run_folder / "report.html")
        self.radius = float(np.linalg.norm(shown.vertices, axis=1).max())
        self.turns = 0
        self.view = self.canvas()
        for name in ("boundary", "back"):
            self.page.locator(f"#show-{name}").set_checked(False)

    def switch(self, name: str) -> None:
        self.page.locator(f"#show-{name}").click()

    def turn(self, count: int) -> None:
        for _ in range(count):
            self.view.press("ArrowRight")
        self.turns += count

    def at(self, *point: float) -> np.ndarray:
        """Red, green, blue and alpha in 0..1 where the point is drawn."""
        self.seen(self.view)
        yaw = YAW + self.turns * TURN
        x, y, z = point
        x, z = np.cos(yaw) * x + np.sin(yaw) * z, -np.sin(yaw) * x + np.cos(yaw) * z
        y, z = np.cos(PITCH) * y - np.sin(PITCH) * z, np.sin(PITCH) * y + np.cos(PITCH) * z
        depth = 1.04 * self.radius / np.sin(FIELD_OF_VIEW / 2) - z
        scale = 0.5 / np.tan(FIELD_OF_VIEW / 2) / depth
        return np.array(self.view.evaluate(PIXEL, [0.5 + scale * x, 0.5 - scale * y])) / 255

    def hue(self, *point: float) -> tuple[int, ...]:
        """Which of red, green and blue are strong there."""
        color = self.at(*point)[:3]
        return tuple(int(value > 0.6 * color.max()) for value in color)

    def done(self) -> None:
        self.context.close()
        assert self.complaints == []


def plain(color: tuple[float, float, float], alpha: float = 1.0, **more: Any) -> Material:
    return Material(base_color=color, alpha=alpha, alpha_mode="opaque" if alpha == 1 else "blend", **more)


def test_a_picture_lies_the_right_way_round_seen_from_both_sides(browser: Any, tmp_path: Path) -> None:
    quarters = torch.tensor([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 0)]], dtype=torch.uint8)
    texture = Texture(quarters, filter="nearest", wrap=("clamp", "clamp"))
    shown = Shown(browser, tmp_path, squares((0.0, plain(WHITE, base_color_texture=texture, double_sided=True))))
    places = {(-0.25, 0.25): (1, 0, 0), (0.25, 0.25): (0, 1, 0), (-0.25, -0.25): (0, 0, 1), (0.25, -0.25): (1, 1, 0)}
    for turns in (0, 16):
        shown.turn(turns)
        assert {place: shown.hue(*place, 0.0) for place in places} == places
    shown.done()


def test_the_front_is_red_and_the_back_is_blue(browser: Any, tmp_path: Path) -> None:
    front, back = squares((0.3, plain(RED))), squares((-0.3, plain(BLUE)))
    faces = torch.cat([front.faces, back.faces.flip(1) + 4])
    look = Appearance((plain(RED), plain(BLUE)), torch.tensor([0, 0, 1, 1]))
    shown = Shown(browser, tmp_path, Mesh(torch.cat([front.vertices, back.vertices]), faces, appearance=look))
    assert shown.hue(0.1, 0.1, 0.3) == (1, 0, 0)
    shown.turn(16)
    assert shown.hue(0.1, 0.1, -0.3) == (0, 0, 1)
    shown.done()


def test_lighting_takes_colours_from_srgb_and_back_once(browser: Any, tmp_path: Path) -> None:
    values = torch.full((4, 3), 1.0)
    values[:2] = 0.5
    grey = torch.tensor([[[255]], [[128]]], dtype=torch.uint8).expand(2, 1, 3).contiguous()
    texture = Texture(grey, filter="nearest", wrap=("clamp", "clamp"))
    shown = Shown(browser, tmp_path, squares((0.0, plain(WHITE, base_color_texture=texture))))
    light, dark = shown.at(0.1, 0.25, 0.0)[0], shown.at(0.1, -0.25, 0.0)[0]
    shown.done()
    linear = [((value + 0.055) / 1.055) ** 2.4 for value in (dark, light)]
    assert 0.7 < light < 0.999, "not cut off"
    assert linear[0] / linear[1] == pytest.approx(0.2159, abs=0.012)


def test_what_is_seen_through_is_mixed_from_far_to_near(browser: Any, tmp_path: Path) -> None:
    shown = Shown(browser, tmp_path, squares((0.2, plain(RED, 0.5)), (-0.2, plain(GREEN, 0.5))))
    for ahead, behind, turns in ((0, 1, 0), (1, 0, 16)):
        shown.turn(turns)
        color = shown.at(0.0, 0.0, 0.0)
        assert color[3] == pytest.approx(0.75, abs=0.01), "what lies behind the canvas is seen through both"
        assert color[ahead] / color[behind] == pytest.approx(2, rel=0.05)
    shown.done()


def test_what_is_solid_hides_what_may_be_seen_through(browser: Any, tmp_path: Path) -> None:
    shown = Shown(browser, tmp_path, squares((0.2, plain(RED, 0.5)), (-0.2, plain(BLUE))))
    red, green, blue, alpha = shown.at(0.0, 0.0, 0.0)
    assert alpha == 1
    assert red == pytest.approx(blue, rel=0.05)
    assert green == 0
    shown.turn(16)
    assert shown.hue(0.0, 0.0, 0.0) == (0, 0, 1)
    shown.done()


def test_every_face_of_a_glass_ball_counts_once_however_it_is_turned(browser: Any, tmp_path: Path) -> None:
    ball = bumpy_sphere(24)
    count = len(ball.vertices)
    vertices = torch.from_numpy(np.concatenate([ball.vertices, ball.vertices * 0.5]))
    faces = torch.from_numpy(np.concatenate([ball.faces, ball.faces + count]))
    attributes = {"base_color": torch.ones(2 * count, 3), "alpha": torch.full((2 * count, 1), 0.3)}
    shown = Shown(browser, tmp_path, Mesh(vertices, faces, attributes=attributes))
    for turns in range(3):
        shown.turn(min(turns, 1))
        yaw = YAW + shown.turns * TURN
        for distance, layers in ((0.02, 4), (0.1, 4), (0.35, 2)):
            alpha = shown.at(distance * np.cos(yaw), 0.0, distance * np.sin(yaw))[3]
            assert alpha == pytest.approx(1 - 0.7**layers, abs=0.02), (turns, distance)
    shown.done()


def test_a_mask_cuts_holes_and_what_is_solid_hides(browser: Any, tmp_path: Path) -> None:
    image = torch.tensor([[(255, 0, 0, 40), (255, 0, 0, 220)]], dtype=torch.uint8)
    texture = Texture(image, filter="nearest", wrap=("clamp", "clamp"))
    opacity = replace(texture, channels=(3,))
    front = Material(base_color=WHITE, alpha_mode="mask", base_color_texture=texture, alpha_texture=opacity)
    shown = Shown(browser, tmp_path, squares((0.1, front), (-0.1, plain(BLUE))))
    assert shown.hue(-0.25, 0.0, 0.1) == (0, 0, 1)
    assert shown.hue(0.25, 0.0, 0.1) == (1, 0, 0)
    shown.done()


@pytest.mark.parametrize("double_sided", [False, True])
def test_back_faces_are_striped_unless_their_material_has_two_sides(
    browser: Any, tmp_path: Path, double_sided: bool
) -> None:
    shown = Shown(browser, tmp_path, squares((0.0, plain(RED, double_sided=double_sided))))
    shown.turn(16)

    def shades() -> int:
        row = [shown.at(x, 0.0, 0.0) for x in np.linspace(-0.3, 0.3, 25)]
        assert all(color[0] > 0.2 and color[1] < 0.05 for color in row), "red all over"
        return len({round(color[0], 1) for color in row})

    assert shades() == 1
    shown.switch("back")
    assert shades() == (1 if double_sided else 2)
    shown.done()


def test_colours_of_vertices_are_shown(browser: Any, tmp_path: Path) -> None:
    colors = torch.tensor([RED, BLUE, BLUE, RED])
    shown = Shown(browser, tmp_path, squares((0.0, Material()), attributes={"base_color": colors}))
    assert shown.hue(-0.45, 0.0, 0.0) == (1, 0, 0)
    assert shown.hue(0.45, 0.0, 0.0) == (0, 0, 1)
    shown.done()


def test_materials_can_be_switched_off_and_give_way_to_the_error_map(browser: Any, tmp_path: Path) -> None:
    shown = Shown(browser, tmp_path, squares((0.0, plain(RED))), errors=True)
    assert shown.page.locator("#show-material").is_visible()
    red = shown.at(0.1, 0.1, 0.0)
    shown.switch("material")
    grey = shown.at(0.1, 0.1, 0.0)
    assert grey[:3].max() - grey[:3].min() < 0.15
    shown.switch("material")
    assert (shown.at(0.1, 0.1, 0.0) == red).all()
    shown.switch("errors")
    assert shown.hue(0.1, 0.1, 0.0) != (1, 0, 0)
    shown.done()


def test_pages_without_materials_have_no_switch_for_them(browser: Any, tmp_path: Path) -> None:
    sphere = bumpy_sphere(12)
    shown = Shown(browser, tmp_path, Mesh(torch.from_numpy(sphere.vertices), torch.from_numpy(sphere.faces)))
    assert not shown.page.locator("#show-material").is_visible()
    assert shown.seen(shown.view)["share"] > 0.9
    shown.done()


def test_a_mesh_file_opens_as_a_page_with_its_picture(browser: Any, tmp_path: Path) -> None:
    texture = Texture(torch.tensor([[(255, 0, 0)]], dtype=torch.uint8))
    save_mesh(squares((0.0, plain(WHITE, base_color_texture=texture))), tmp_path / "square.glb")
    assert run("report", tmp_path / "square.glb").returncode == 0
    context = browser.new_context(offline=True)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto((tmp_path / "square.html").as_uri())
    page.locator("canvas[data-drawn]").wait_for()
    canvas = page.locator("canvas")
    before = canvas.evaluate(MIDDLE)
    color = canvas.evaluate(PIXEL, [0.5, 0.5])
    assert color[0] > 150
    assert color[1] < 30
    page.locator("#material").click()
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert canvas.evaluate(MIDDLE)["sum"] != before["sum"]
    assert complaints == []
    context.close()
