"""The report command without a browser: what is in the page, how large it is, and what is refused."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from distributions import install, shapewright
from in_process import assert_refused, run
from report_runs import bumpy_sphere, cell, small_run, write_run
from shapewright import Frame, Mesh
from shapewright.report.display_mesh import decode


class Page(HTMLParser):
    """Text outside scripts, and scripts by id."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text: list[str] = []
        self.scripts: dict[str, str] = {}
        self.links: list[str] = []
        self._script: str | None = None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag == "script":
            self._script = found.get("id") or "main"
        self.links += [str(found[name]) for name in ("src", "href") if name in found]

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is None:
            self.text.append(data)
        else:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    def __contains__(self, text: str) -> bool:
        return text in " ".join(" ".join(self.text).split())


def report(folder: Path, *arguments: object) -> Page:
    done = run("report", folder, *arguments)
    assert done.returncode == 0, done.stderr
    return Page(folder / "report.html")


def test_the_page_holds_table_failures_definitions_and_provenance(tmp_path: Path) -> None:
    page = report(small_run(tmp_path / "run"))
    assert "alpha+cubes" in page
    assert "out of <wool> & yarn" in page
    assert "alpha+nothing : they do not fit" in page
    assert "(mean comp + mean acc) / 2" in page
    assert "toy processor" in page
    assert "CC0-1.0" in page
    assert "Gregg Tavares" in page, "the licence of the bundled library"


def test_the_page_asks_for_nothing_from_the_network(tmp_path: Path) -> None:
    page = report(small_run(tmp_path / "run"))
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert "default-src 'none'" in (tmp_path / "run" / "report.html").read_text()


def test_every_mesh_is_in_the_page_once_and_can_be_read(tmp_path: Path) -> None:
    page = report(small_run(tmp_path / "run"))
    data = json.loads(page.scripts["data"])
    meshes = [decode(base64.b64decode(page.scripts[f"view-{index}"])) for index in range(len(data["views"]))]
    assert len(meshes) == 8
    assert [len(mesh.faces) for mesh in meshes] == [shown for shown, _ in data["views"]]
    assert {sample["view"] for sample in data["samples"]} == {0}
    assert sum(entry["view"] < 0 for entry in data["cells"]) == 1


def test_means_count_a_failed_cell_but_plots_of_cells_do_not(tmp_path: Path) -> None:
    data = json.loads(report(small_run(tmp_path / "run")).scripts["data"])
    row = next(row for row in data["rows"] if (row["pipeline"], row["resolution"]) == ("beta+cubes", 32))
    assert row["entries"][0][0] == pytest.approx(1000 * (2 / 32 / 10 + 0.5) / 2)
    assert [entry["values"][0] for entry in data["cells"] if entry["status"] == "failed"] == [None]


def test_names_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><!--"
    folder = write_run(tmp_path / "run", [cell(evil, evil, 8, 0.1, dataset=evil, tags=[evil], warnings=[evil])])
    page = report(folder)
    data = json.loads(page.scripts["data"])
    assert data["samples"][0]["id"] == evil
    assert data["pipelines"] == [evil]
    assert set(page.scripts) == {"data", "main"}
    assert "alert(1)" not in page.scripts["main"]


def test_plugins_add_sections_and_one_that_fails_spoils_no_other(tmp_path: Path) -> None:
    source = """
        from shapewright.plugin import hookimpl


        @hookimpl
        def report_sections(cards):
            {body}
        """
    good = "return [('Costs & <others>', f'{len(list(cards.iterdir()))} cards\\n\\nsecond <b>part</b>')]"
    for name, body in (("good", good), ("bad", "raise ValueError('no such price')")):
        install(tmp_path / "site", name, {f"{name}_plugin.py": source.format(body=body)}, {name: f"{name}_plugin"})
    folder = small_run(tmp_path / "run")
    (folder / "cards").mkdir(exist_ok=True)
    count = len(list((folder / "cards").iterdir()))
    done = shapewright("report", folder, sites=(tmp_path / "site",))
    assert done.returncode == 0, done.stderr
    page = Page(folder / "report.html")
    assert "Costs & <others>" in page
    assert f"{count} cards" in page
    assert "second <b>part</b>" in page, "text, not markup"
    assert "No section of bad" in page
    assert "ValueError: no such price" in page


def test_a_page_keeps_below_its_size_with_coarser_meshes_labelled(tmp_path: Path) -> None:
    meshes = {f"views/{k}.swdm": bumpy_sphere(90 - k, 0.01) for k in range(50)}
    cells = [cell("alpha+cubes", f"shape-{k}", 16, 0.1, view=place) for k, place in enumerate(meshes)]
    folder = write_run(tmp_path / "run", cells, meshes)
    page = report(folder, "--megabytes", 2)
    assert 1.4e6 < (folder / "report.html").stat().st_size < 2e6
    views = json.loads(page.scripts["data"])["views"]
    assert sum(shown < full for shown, full in views) > 5
    largest = max(shown for shown, _ in views)
    assert all(shown == full for shown, full in views if full < 0.4 * largest), "small meshes need not suffer"


def test_the_same_folder_makes_the_same_page(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "run")
    for name in ("a.html", "b.html"):
        assert run("report", folder, "-o", tmp_path / name).returncode == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_report_needs_no_torch(tmp_path: Path) -> None:
    small_run(tmp_path / "run")
    code = (
        "import sys\nfrom shapewright.cli import main\n"
        f"try:\n    main(['report', {str(tmp_path / 'run')!r}])\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(sorted({'torch', 'numba', 'trimesh'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_missing_or_torn_view_is_told_and_left_out(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "run")
    (folder / "views" / "ball-16-0.swdm").unlink()
    torn = folder / "views" / "egg-16-0.swdm"
    torn.write_bytes(torn.read_bytes()[:50])
    done = run("report", folder)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "warning: views/ball-16-0.swdm is missing; its view is left out",
        "warning: views/egg-16-0.swdm is torn or no display mesh; its view is left out",
    ]
    assert "6 meshes" in done.stdout


def _spoil(folder: Path, how: str) -> Path:
    if how == "missing":
        return folder / "nowhere"
    if how == "a file":
        return folder / "cells.json"
    if how == "not a bench":
        shutil.rmtree(folder)
        folder.mkdir()
    elif how == "unfinished":
        (folder / "cards").mkdir()
        (folder / "cells.json").unlink()
    elif how == "half-written":
        (folder / "cells.json").write_text((folder / "cells.json").read_text()[:200])
    elif how == "no list":
        (folder / "cells.json").write_text("{}")
    elif how == "not a cell":
        (folder / "cells.json").write_text('[{"pipeline": "a"}]')
    elif how == "nothing tried":
        (folder / "cells.json").write_text("[]")
    else:
        (folder / how).unlink()
    return folder


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ("missing", "there is no such folder"),
        ("a file", "is a file"),
        ("not a bench", "holds no bench"),
        ("unfinished", "the same bench command again"),
        ("half-written", "cells.json: is damaged"),
        ("no list", "is not a list of cells"),
        ("not a cell", "cell 1 lacks"),
        ("nothing tried", "no cell that was tried"),
        ("metrics.json", "metrics.json is missing"),
        ("run.json", "run.json is missing"),
    ],
)
def test_what_is_no_finished_bench_is_refused_in_one_line(tmp_path: Path, how: str, wanted: str) -> None:
    folder = _spoil(small_run(tmp_path / "run"), how)
    assert_refused(run("report", folder), wanted)
    assert not (tmp_path / "run" / "report.html").exists()


def test_bad_options_are_refused(tmp_path: Path) -> None:
    folder = small_run(tmp_path / "run")
    assert_refused(run("report", folder, "--megabytes", "0.1"), "0.1")
    assert_refused(run("report", folder, "-o", tmp_path), "is a folder")
    assert_refused(run("report"), "DIR")


def test_the_build_is_that_of_the_sources() -> None:
    """The committed script is made by `npm run build`; an edit of a source without it would ship the old page."""
    from shapewright.report.page import asset

    viewer = Path(sys.modules["shapewright.report.page"].__file__ or "").parent / "viewer"
    recorded = json.loads(asset("build.json"))
    sources = {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted((viewer / "src").glob("*.js"))}
    assert recorded["sources"] == sources, "run `make viewer`"
    locked = json.loads((viewer / "package-lock.json").read_text())["packages"]
    library = re.match(r"twgl\.js ([\d.]+)", asset("LICENSES.txt"))
    assert library is not None
    assert library[1] == locked["node_modules/twgl.js"]["version"]


def test_a_mesh_shows_itself_in_a_notebook() -> None:
    sphere = bumpy_sphere(12)
    mesh = Mesh(torch.from_numpy(sphere.vertices * 30 + 100), torch.from_numpy(sphere.faces), Frame(), oriented=False)
    html = mesh._repr_html_()
    assert html.startswith('<iframe sandbox="allow-scripts"')
    assert f"{len(mesh.vertices)} vertices, {len(mesh.faces)} faces" in html
    assert "the winding carries no meaning" in html
    radius = re.search(r"data-radius=&quot;([\d.]+)&quot;", html)
    assert radius is not None
    assert float(radius[1]) == pytest.approx(15, rel=0.02)


def test_a_mesh_that_cannot_be_shown_says_so() -> None:
    empty = Mesh(torch.zeros(3, 3), torch.zeros(0, 3, dtype=torch.int64))
    assert "nothing to show" in empty._repr_html_()
    wild = Mesh(torch.full((3, 3), float("nan")), torch.tensor([[0, 1, 2]]))
    assert "not finite" in wild._repr_html_()
