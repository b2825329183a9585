"""Options of the signed-distance representations."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shapewright.errors import ConfigError

LARGEST_RESOLUTION = 4096
SMALLEST_BAND = 1.75
"""In cells: a cell that the surface touches has all its corners within sqrt(3) of it, and an extractor needs all
eight."""
SURFACES = ("solid", "shell", "refuse")


@dataclass(frozen=True)
class Config:
    """Options of ``representation/sdf`` and ``representation/sdf-grid``.

    Raises:
        ConfigError: an option is out of range.
    """

    resolution: int = 128
    """Cells an axis."""
    margin: float = 1.25
    """Cells between the mesh's frame and the border of the lattice. The fraction keeps the faces of a box that fills
    its frame off the lattice planes."""
    band: float = SMALLEST_BAND
    """Cells on each side of the surface in which points are kept (``sdf``; the dense grid keeps all). The default holds
    what extraction needs; widen it for queries away from the surface."""
    surface: str = "solid"
    """What the field means.

    ``solid``: negative where the winding number of the mesh exceeds 1/2 in absolute value. Open surfaces have no
    inside: the sign then changes where their winding number happens to cross 1/2, which adds walls, and an
    ``OpenSurfaceWarning`` says so. ``refuse``: the same for meshes without open edges, an error for all others.
    ``shell``: unsigned distance with the surface at ``thickness``: closed sheets around everything, inner walls and
    open surfaces included, each doubled.
    """
    thickness: float = 0.75
    """Distance of a shell from the surface, to each side, in cells: above 0.5, so that the lattice cannot slip
    through, and below the margin."""
    gradients: bool = True
    """Store exact gradients at the lattice points (Hermite data, with which dual contouring keeps edges): 12 bytes a
    point more."""

    def __post_init__(self) -> None:
        _within("resolution", self.resolution, 1, LARGEST_RESOLUTION)
        _within("margin", self.margin, 0, 64)
        _within("band", self.band, SMALLEST_BAND, 64)
        _within("thickness", self.thickness, 0.5, 16, open_start=True)
        if self.resolution <= 2 * self.margin:
            least = math.floor(2 * self.margin) + 1
            raise ConfigError(
                f"resolution {self.resolution} leaves no cell inside a margin of {self.margin:g} cells on each side; "
                f"use at least {least}, or a smaller margin"
            )
        if self.surface not in SURFACES:
            raise ConfigError(f"surface must be one of {', '.join(SURFACES)}, not {self.surface!r}")
        if self.shell and self.margin <= self.thickness:
            raise ConfigError(
                f"margin must be above the thickness of a shell ({self.thickness:g} cells), not {self.margin:g}; "
                "the border of the lattice would cut the shell open"
            )

    @property
    def shell(self) -> bool:
        """Whether the field is an unsigned distance with its surface at :attr:`thickness`."""
        return self.surface == "shell"

    @property
    def reach(self) -> float:
        """Cells from the mesh within which points are kept: the band, around a shell as well."""
        return max(self.band, self.thickness + SMALLEST_BAND) if self.shell else self.band


def _within(name: str, value: float, least: float, most: float, *, open_start: bool = False) -> None:
    if not (least <= value <= most) or (open_start and value == least):  # also refuses NaN
        start = "above" if open_start else "at least"
        raise ConfigError(f"{name} must be {start} {least:g} and at most {most:g}, not {value}")
