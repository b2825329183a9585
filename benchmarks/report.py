"""Tables and plots of docs/performance.md from the rows of kernels.py.

    python benchmarks/report.py [ROWS] [--document docs/performance.md] [--measure-warmup] [--check]

Rewrites what stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``; the text around it is written by hand.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
Row = Mapping[str, Any]
SCALING = (
    "mesh-to-flexible-dual-grid",
    "textured-o-voxel",
    "flexible-dual-grid-to-mesh",
    "narrow-band-signed-distance",
    "marching-cubes",
    "dual-contouring",
    "flexicubes-forward-backward",
    "surface-voxelisation",
    "neighbour-map-27",
)
"""Operations whose cost depends on the resolution of a surface."""
FIT_FROM = 256
"""Below it set-up by triangle dominates, so exponents are fitted from here on, where there are two resolutions."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is aligned to the right."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows])


def seconds(value: float) -> str:
    """Three digits, ms below one second."""
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def size(value: float | None) -> str:
    """MiB."""
    return "" if value is None else f"{value / 2**20:,.0f}"


def goals(rows: Sequence[Row]) -> str:
    """Every goal of the issue, the worst and the median figure over meshes, and whether all meshes reach it."""
    lines = []
    for operation, resolution, peer, wanted, found in _goal_groups(rows):
        reached = sum(value >= wanted for value in found)
        verdict = "reached" if reached == len(found) else f"{reached} of {len(found)} meshes"
        lines.append(
            [
                operation,
                f"{resolution or '-'}, {peer}",
                f"{wanted:g}x",
                f"{median(found):.1f}x",
                f"{min(found):.1f}x",
                verdict,
            ]
        )
    for operation, resolution, name, wanted, values in _bounds(rows):
        reached = sum(value <= wanted for value in values)
        verdict = "reached" if reached == len(values) else f"{reached} of {len(values)} meshes"
        lines.append(
            [operation, f"{resolution}, {name}", f"{wanted:g}", f"{median(values):.3g}", f"{max(values):.3g}", verdict]
        )
    return table(["operation", "resolution, against", "goal", "median", "worst", "all meshes"], lines)


def _goal_groups(rows: Sequence[Row]) -> list[tuple[str, Any, str, float, list[float]]]:
    groups: dict[tuple[str, Any, str, float], list[float]] = {}
    for row in rows:
        for peer in row["peers"]:
            wanted = peer["goal"]
            if wanted is None or not peer["equal"]:
                continue
            # one goal for whichever is the fastest, or one for each of several peers
            several = len({other["goal"] for other in row["peers"]}) > 1
            if not several and peer["name"] != row["peer"]:
                continue
            name = peer["name"] if several else "fastest peer"
            groups.setdefault((row["operation"], row["resolution"], name, wanted), []).append(peer["ratio"])
    return [(*key, values) for key, values in groups.items()]


def _bounds(rows: Sequence[Row]) -> list[tuple[str, Any, str, float, list[float]]]:
    kinds = (
        ("seconds_per_million", "seconds_per_million_goal", "seconds per million {unit}"),
        ("bytes_per_unit", "bytes_per_unit_goal", "peak bytes a {unit}"),
        ("ours_peak_bytes", "peak_bytes_goal", "peak bytes"),
    )
    groups: dict[tuple[str, Any, str, float], list[float]] = {}
    for row in rows:
        for value, goal, text in kinds:
            if row.get(goal) is not None:
                unit = row.get("unit", "")
                name = text.format(unit=unit.rstrip("s") if "bytes" in text else unit)
                groups.setdefault((row["operation"], row["resolution"], name, row[goal]), []).append(row[value])
    return [(*key, values) for key, values in groups.items()]


def figures(rows: Sequence[Row]) -> str:
    """All rows."""
    lines = []
    for row in rows:
        spread = f"{seconds(row['ours_s'])} ({seconds(row['ours_min_s'])} to {seconds(row['ours_max_s'])})"
        others = ", ".join(
            f"{peer['name']} {peer['ratio']:.2f}x{'' if peer['equal'] else ' (differs)'}"
            for peer in sorted(row["peers"], key=lambda peer: float(peer["ratio"]))
        )
        per = row.get("seconds_per_million")
        lines.append(
            [
                row["operation"], row["mesh"], str(row["resolution"] or ""), spread, seconds(row["ours_cpu_s"]),
                "" if per is None else f"{per:.3f} {row['unit']}", size(row["ours_peak_bytes"]),
                size(row["peer_peak_bytes"]), others or "no peer",
            ]
        )  # fmt: skip
    head = [
        "operation", "mesh", "resolution", "ours (min to max)", "CPU", "s per million", "MiB", "peer MiB",
        "peer time / ours",
    ]  # fmt: skip
    return table(head, lines)


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Slope of a straight line through the logarithms, least squares.

    >>> round(exponent([(1, 3), (2, 12), (4, 48)]), 6)
    2.0
    """
    x, y = ([math.log(value) for value in axis] for axis in zip(*points, strict=True))
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)) / sum((a - middle_x) ** 2 for a in x)


def _series(rows: Sequence[Row], operation: str, key: str) -> dict[str, list[tuple[float, float]]]:
    """Points (resolution, value) by mesh."""
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["operation"] == operation and row["resolution"] and row[key] > 0:
            series.setdefault(row["mesh"], []).append((row["resolution"], row[key]))
    return {mesh: sorted(points) for mesh, points in series.items() if len(points) > 1}


def _fits(series: Mapping[str, Sequence[tuple[float, float]]]) -> list[float]:
    fits = []
    for points in series.values():
        upper = [point for point in points if point[0] >= FIT_FROM]
        fits.append(exponent(upper if len(upper) > 1 else points))
    return fits


def exponents(rows: Sequence[Row]) -> str:
    """Fitted exponents of time and memory by operation: median over meshes, least and greatest."""
    lines = []
    for operation in SCALING:
        cells = [operation]
        for key in ("ours_s", "ours_peak_bytes"):
            found = _fits(_series(rows, operation, key))
            cells.append(f"{median(found):.2f} ({min(found):.2f} to {max(found):.2f})" if found else "")
        if any(cells[1:]):
            lines.append(cells)
    return table(["operation", "time (least to greatest)", "memory"], lines)


def run(rows: Sequence[Row]) -> str:
    """Date, machine, command, load and note of every run that made rows; versions of the last."""
    runs: dict[str, list[Row]] = {}
    for row in rows:
        runs.setdefault(json.dumps(row["run"], sort_keys=True), []).append(row)
    lines = []
    for part in runs.values():
        made = part[0]["run"]
        loads = [row["load_average"] for row in part if row["load_average"] is not None]
        load = f"; load average {min(loads):.1f} to {max(loads):.1f}" if loads else ""
        lines.append(f"- {made['date']}, {made['machine']}, {made['system']}; `{made['command']}`{load}")
        if made["note"]:
            lines.append(f"  **{made['note'][:1].upper()}{made['note'][1:]}.**")
    versions = rows[-1]["run"]["versions"]
    lines.append("- " + ", ".join(f"{name} {number}" for name, number in versions.items()))
    return "\n".join(lines)


def measured_warmup() -> dict[str, list[Row]]:
    """``shapewright warmup`` with an empty cache of compiled code (``cold``), then in a new process with that cache."""
    found: dict[str, list[Row]] = {}
    words = [sys.executable, "-m", "shapewright", "warmup", "--json"]
    with tempfile.TemporaryDirectory() as cache:
        for state in ("cold", "cached"):
            done = subprocess.run(words, env={**os.environ, "NUMBA_CACHE_DIR": cache}, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"shapewright warmup failed: {done.stderr}")
            found[state] = json.loads(done.stdout)
    return found


def warmup(found: Mapping[str, Sequence[Row]]) -> str:
    """Seconds of every component: nothing compiled, compiled before but a new process, again in that process."""
    lines = [
        [cold["component"], *(seconds(value) for value in (cold["first"], cached["first"], cached["again"]))]
        for cold, cached in zip(found["cold"], found["cached"], strict=True)
    ]
    columns = ([row["first"] for row in found["cold"]], [row["first"] for row in found["cached"]])
    again = [row["again"] for row in found["cached"]]
    lines.append(["**all**", *(seconds(sum(column)) for column in (*columns, again))])
    return table(["component", "nothing compiled", "new process, cached", "same process"], lines)


def tolerances(rows: Sequence[Row]) -> str:
    """Tolerance of every operation."""
    seen = {row["operation"]: row["tolerance"] for row in rows}
    return table(["operation", "outputs are equal when"], seen.items())


SECTIONS: Mapping[str, Callable[[Sequence[Row]], str]] = {
    "run": run,
    "goals": goals,
    "exponents": exponents,
    "tolerances": tolerances,
    "figures": figures,
}


def filled(document: str, rows: Sequence[Row], warm: Mapping[str, Sequence[Row]] | None = None) -> str:
    """The document with every generated part made anew; without ``warm`` that of the warm-up stays.

    Raises:
        ValueError: a part has a name that no table has.
    """

    def replacement(match: re.Match[str]) -> str:
        name = match.group(1)
        if name == "warm-up":
            return match.group() if warm is None else f"<!-- generated: {name} -->\n\n{warmup(warm)}\n\n<!-- end -->"
        if name not in SECTIONS:
            raise ValueError(f"no table is named {name!r}; there are {', '.join(SECTIONS)}")
        return f"<!-- generated: {name} -->\n\n{SECTIONS[name](rows)}\n\n<!-- end -->"

    return re.sub(r"<!-- generated: ([\w -]+?) -->.*?<!-- end -->", replacement, document, flags=re.DOTALL)


def plot(rows: Sequence[Row], target: Path) -> None:
    """Time and peak memory against resolution, medians over meshes, log-log; needs matplotlib."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "performance"  # equal rows give equal files
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for axis, key, unit, scale in zip(
        axes, ("ours_s", "ours_peak_bytes"), ("seconds", "peak memory, MiB"), (1, 2**20), strict=True
    ):
        for operation in SCALING:
            series = _series(rows, operation, key)
            if not series:
                continue
            resolutions = sorted({point[0] for points in series.values() for point in points})
            # only meshes with all resolutions: medians of different meshes would bend the line
            whole = [dict(points) for points in series.values() if len(points) == len(resolutions)]
            if not whole:
                continue
            values = [median(points[r] for points in whole) / scale for r in resolutions]
            axis.plot(resolutions, values, "o-", markersize=3, label=f"{operation}, {median(_fits(series)):.1f}")
        axis.set(xscale="log", yscale="log", xlabel="resolution", ylabel=unit)
        ticks = sorted({row["resolution"] for row in rows if row["resolution"]})
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, title="fitted exponent", title_fontsize=7)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)


def main(words: Sequence[str] | None = None) -> int:
    """Fill the document and draw the plot beside it."""
    parser = argparse.ArgumentParser(description="Tables and plots of docs/performance.md.")
    parser.add_argument("rows", type=Path, nargs="?", default=ROOT / "docs" / "performance.json")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "performance.md")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the tables are not those of ROWS")
    parser.add_argument("--measure-warmup", action="store_true", help="measure the warm-up as well, for its table")
    arguments = parser.parse_args(words)
    rows = json.loads(arguments.rows.read_text())
    old = arguments.document.read_text()
    new = filled(old, rows, measured_warmup() if arguments.measure_warmup else None)
    if arguments.check:
        return int(new != old)
    arguments.document.write_text(new)
    plot(rows, arguments.document.parent / "images" / "performance.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
