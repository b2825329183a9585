"""What is painted on the faces of a display mesh: colours, and small pictures that lie on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Singles = NDArray[np.float32]

ALPHA = ("opaque", "mask", "blend")
WRAPS = ("repeat", "clamp", "mirror")


@dataclass(frozen=True)
class PaintMaterial:
    """How faces are painted; colours are those of the corners, times the image where there is one."""

    image: int = -1
    """Row of :attr:`Paint.images`, -1 for none."""
    alpha: str = "opaque"
    """``opaque`` ignores alpha, ``mask`` shows what is at least ``cutoff``, ``blend`` mixes."""
    cutoff: float = 0.5
    double_sided: bool = False
    wrap: tuple[str, str] = ("repeat", "repeat")
    nearest: bool = False
    """Texels with sharp borders, as the file asks for."""


@dataclass(frozen=True, eq=False)
class Paint:
    """The paint of ``F`` faces. Colours are sRGB as in the files."""

    materials: tuple[PaintMaterial, ...]
    face_materials: Ints
    """``(F,)`` rows of ``materials``."""
    images: tuple[bytes, ...] = ()
    """Files that browsers read; upper row first."""
    uvs: Singles | None = None
    """``(F, 3, 2)``, ``v`` upward; ``None`` where there is no image."""
    colors: Bytes | None = None
    """``(F, 3, 4)`` red, green, blue and alpha of the corners; ``None``: all white."""

    def select(self, rows: NDArray[Any]) -> Paint:
        """The paint of the faces ``rows``, numbers or flags."""
        return replace(
            self,
            face_materials=self.face_materials[rows],
            uvs=None if self.uvs is None else self.uvs[rows],
            colors=None if self.colors is None else self.colors[rows],
        )


def describe(paint: Paint, uv_place: tuple[float, float, float]) -> bytes:
    """Materials, lengths of the images and where the texture coordinates lie, as JSON."""
    body = {
        "materials": [asdict(material) for material in paint.materials],
        "images": [len(image) for image in paint.images],
        "uv": uv_place,
    }
    return json.dumps(body, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Description:
    """What :func:`describe` wrote."""

    materials: tuple[PaintMaterial, ...]
    image_bytes: tuple[int, ...]
    uv_place: tuple[float, float, float]


def read_description(data: bytes) -> Description:
    """Read :func:`describe`'s bytes.

    Raises:
        ValueError: they are something else.
    """
    try:
        body = json.loads(data)
        lengths = tuple(int(length) for length in body["images"])
        materials = tuple(_material(entry, len(lengths)) for entry in body["materials"])
        u, v, step = (float(value) for value in body["uv"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no description of paint: {error}") from None
    if any(length < 0 for length in lengths):
        raise ValueError("an image of negative length")
    return Description(materials, lengths, (u, v, step))


def _material(entry: Mapping[str, Any], images: int) -> PaintMaterial:
    made = PaintMaterial(**{**entry, "wrap": tuple(entry["wrap"])})
    known = made.alpha in ALPHA and len(made.wrap) == 2 and set(made.wrap) <= set(WRAPS)
    if not known or not -1 <= made.image < images:
        raise ValueError(f"no material: {entry}")
    return made
