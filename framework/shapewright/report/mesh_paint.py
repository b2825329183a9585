"""From the appearance or the coloured vertices of a mesh to the paint of its display mesh."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .paint import Bytes, Ints, Paint, PaintMaterial, Singles
from .textures import fitting_sizes, packed, resized_bands

if TYPE_CHECKING:
    from ..materials import Appearance, Material, Texture
    from ..states import Mesh

COLOURED = ("color", "base_color", "alpha")
"""Attributes of vertices that say what a mesh looks like."""
_CHUNK = 1 << 18
_PERIODS = 32
"""Faces that lie further from the origin of the image than this are moved by whole periods."""


@dataclass(frozen=True)
class TextureLimits:
    """How much of its textures a display mesh keeps."""

    side: int = 512
    """Pixels along the longer side of a picture."""
    texels: int = 512 * 1024
    """Of all pictures of a mesh together."""


STORED = TextureLimits()
"""For results and references of a bench."""


def paint_of(mesh: Mesh, limits: TextureLimits = STORED) -> Paint | None:
    """The paint of every face of ``mesh``, or ``None`` where nothing says what it looks like.

    Base colour and alpha as ``Mesh.appearance`` and the attributes ``color``, ``base_color`` and ``alpha`` give them; a
    factor times a texture times the colour of the corner. An alpha texture with coordinates other than those of the
    base colour counts by its values at the corners.
    """
    attributes = {name: _numbers(mesh.attributes[name]) for name in COLOURED if name in mesh.attributes}
    look = mesh.appearance
    painted = look is not None and (bool(look.materials) or look.corner_colors is not None)
    if not len(mesh.faces) or not (painted or attributes):
        return None
    faces = mesh.faces.numpy(force=True)
    rows, materials = _rows(look, len(faces))
    pictures = _Pictures()
    kinds = [_kind(material, attributes, pictures) for material in materials]
    uvs = _coordinates(look, rows, kinds) if look is not None and pictures.textures else None
    colors = np.empty((len(faces), 3, 4), np.uint8)
    for start in range(0, len(faces), _CHUNK):
        part = slice(start, start + _CHUNK)
        colors[part] = _corner_colors(faces, rows, materials, kinds, look, attributes, part)
    return _merged(rows, [kind.paint for kind in kinds], pictures, limits, uvs, colors)


def _numbers(value: Any) -> Singles:
    return np.asarray(value.numpy(force=True), np.float32)


def _rows(look: Appearance | None, count: int) -> tuple[Ints, list[Material]]:
    """``(F,)`` rows of the materials that faces have. Where a file has none, alpha is what the colours say."""
    from ..materials import Material

    if look is None or not look.materials:
        return np.zeros(count, np.int64), [Material(alpha_mode="blend")]
    if look.face_materials is None:
        return np.zeros(count, np.int64), [look.materials[0]]
    used, rows = np.unique(look.face_materials.numpy(force=True), return_inverse=True)
    plain = Material()
    return rows.reshape(-1).astype(np.int64), [look.materials[row] if row >= 0 else plain for row in used]


def _corner_colors(
    faces: Ints,
    rows: Ints,
    materials: list[Material],
    kinds: list[_Kind],
    look: Appearance | None,
    attributes: dict[str, Singles],
    part: slice,
) -> Bytes:
    """``(G, 3, 4)`` of the faces ``part``: everything but pictures."""
    faces, rows = faces[part], rows[part]
    factors = np.array([[*material.base_color, material.alpha] for material in materials], np.float32)
    colors = np.repeat(factors[rows][:, None], 3, axis=1)
    if look is not None and look.corner_colors is not None:
        given = _numbers(look.corner_colors[part])
        colors[:, :, : given.shape[2]] *= given
    elif "color" in attributes:
        given = attributes["color"][faces]
        if look is None or not look.materials:
            colors[:, :, : given.shape[2]] = 1.0
        colors[:, :, : given.shape[2]] *= given
    if "base_color" in attributes:
        colors[:, :, :3] = attributes["base_color"][faces]
    if "alpha" in attributes:
        colors[:, :, 3] = attributes["alpha"].reshape(-1)[faces]
    for row, kind in enumerate(kinds):
        if kind.paint.alpha == "opaque":
            colors[rows == row, :, 3] = 1.0
        elif kind.apart is not None and look is not None:
            here = np.flatnonzero(rows == row)
            colors[here, :, 3] *= _at_corners(look, kind.apart, here + part.start)
    return np.asarray(np.rint(np.nan_to_num(colors, nan=1.0).clip(0, 1) * 255), np.uint8)


@dataclass(frozen=True)
class _Kind:
    """How the faces of one material are painted, which texture coordinates they use, and an alpha texture that goes
    its own way."""

    paint: PaintMaterial
    uv_set: int = 0
    apart: Texture | None = None


class _Pictures:
    """Pairs of a colour and an alpha texture, each kept once."""

    def __init__(self) -> None:
        self.textures: list[tuple[Texture | None, Texture | None]] = []
        self._known: dict[object, int] = {}

    def row(self, color: Texture | None, alpha: Texture | None) -> int:
        key = tuple((id(texture.pixels), texture.channels) if texture else None for texture in (color, alpha))
        if key not in self._known:
            self._known[key] = len(self.textures)
            self.textures.append((color, alpha))
        return self._known[key]

    def clear(self, row: int) -> bool:
        """Whether something may be seen through this picture."""
        alpha = self.textures[row][1] if row >= 0 else None
        return alpha is not None and bool((alpha.pixels[:, :, alpha.channels[0]] < 255).any())

    def packed(self, limits: TextureLimits) -> tuple[bytes, ...]:
        shapes = [[texture.pixels.shape for texture in pair if texture] for pair in self.textures]
        sizes = [(max(shape[0] for shape in pair), max(shape[1] for shape in pair)) for pair in shapes]
        wanted = fitting_sizes(sizes, limits.side, limits.texels)
        return tuple(packed(_picture(*pair, *size)) for pair, size in zip(self.textures, wanted, strict=True))


def _picture(color: Texture | None, alpha: Texture | None, height: int, width: int) -> Bytes:
    """Red, green and blue, and alpha where there is one, of this size."""
    if alpha is None:
        assert color is not None
        return _resized((color,), height, width)
    if color is None:
        return np.concatenate([np.full((height, width, 3), 255, np.uint8), _resized((alpha,), height, width)], axis=2)
    if color.pixels.shape[:2] == alpha.pixels.shape[:2]:  # together, so that clear texels lend no colour
        return _resized((color, alpha), height, width)
    return np.concatenate([_resized((texture,), height, width) for texture in (color, alpha)], axis=2)


def _resized(textures: tuple[Texture, ...], height: int, width: int) -> Bytes:
    """Channels of textures of one size, side by side."""

    def band(rows: slice) -> Bytes:
        return np.concatenate([_channels(texture, rows) for texture in textures], axis=2)

    full = textures[0].pixels.shape
    return resized_bands(band, (full[0], full[1]), height, width)


def _channels(texture: Texture, rows: slice = slice(None)) -> Bytes:
    return np.ascontiguousarray(texture.pixels[rows].numpy(force=True)[:, :, list(texture.channels)])


def _kind(material: Material, attributes: dict[str, Singles], pictures: _Pictures) -> _Kind:
    color = None if "base_color" in attributes else material.base_color_texture
    alpha = None if "alpha" in attributes or material.alpha_mode == "opaque" else material.alpha_texture
    apart = None
    if color and alpha and (color.uv_set, color.wrap, color.filter) != (alpha.uv_set, alpha.wrap, alpha.filter):
        alpha, apart = None, alpha
    first = color or alpha
    made = PaintMaterial(
        image=pictures.row(color, alpha) if first else -1,
        alpha=material.alpha_mode,
        cutoff=float(material.alpha_cutoff) if material.alpha_mode == "mask" else 0.5,
        double_sided=material.double_sided,
        wrap=first.wrap if first else ("repeat", "repeat"),
        nearest=first is not None and first.filter == "nearest",
    )
    return _Kind(made, first.uv_set if first else 0, apart)


def _coordinates(look: Appearance, rows: Ints, kinds: list[_Kind]) -> Singles:
    """``(F, 3, 2)`` of the set that each face's material uses; 0 where it has no image or the set is missing."""
    uvs = np.zeros((len(rows), 3, 2), np.float32)
    for row, kind in enumerate(kinds):
        if kind.paint.image < 0 or kind.uv_set >= len(look.uvs):
            continue
        here = rows == row
        uvs[here] = _near(look.uvs[kind.uv_set].numpy(force=True)[here].astype(np.float32), kind.paint.wrap)
    return uvs


def _near(uvs: Singles, wrap: tuple[str, str]) -> Singles:
    """The same places of the image, near its origin: faces far away would cost all others their precision."""
    uvs = uvs.copy()
    for axis in range(2):
        if wrap[axis] == "clamp":
            uvs[:, :, axis] = uvs[:, :, axis].clip(-_PERIODS, _PERIODS)
            continue
        far = np.abs(uvs[:, :, axis]).max(axis=1, initial=0.0) > _PERIODS
        periods = 2 * np.floor(uvs[far, :, axis].astype(np.float64).min(axis=1, initial=np.inf) / 2)
        moved = uvs[far, :, axis].astype(np.float64) - periods[:, None]
        uvs[far, :, axis] = np.minimum(moved, 2.0 * _PERIODS)
    return uvs


def _at_corners(look: Appearance | None, texture: Texture, rows: Ints) -> Singles:
    """``(G, 3)`` values of a one-channel texture at the corners of the faces ``rows``; the nearest texel."""
    assert look is not None
    uvs = np.zeros((len(rows), 3, 2))
    if texture.uv_set < len(look.uvs):
        uvs = look.uvs[texture.uv_set].numpy(force=True)[rows].astype(np.float64)
    pixels = _channels(texture)[:, :, 0]
    places = [uvs[:, :, 0], 1.0 - uvs[:, :, 1]]
    columns, lines = (_wrapped(place, wrap) for place, wrap in zip(places, texture.wrap, strict=True))
    height, width = pixels.shape
    at = pixels[
        (lines * height).astype(np.int64).clip(0, height - 1), (columns * width).astype(np.int64).clip(0, width - 1)
    ]
    return np.asarray(at / np.float32(255), np.float32)


def _wrapped(place: NDArray[np.float64], wrap: str) -> NDArray[np.float64]:
    if wrap == "clamp":
        return place.clip(0.0, 1.0)
    if wrap == "repeat":
        return place - np.floor(place)
    folded = np.abs(place - 2 * np.floor(place / 2))
    return np.asarray(np.minimum(folded, 2 - folded))


def _merged(
    rows: Ints,
    kinds: list[PaintMaterial],
    pictures: _Pictures,
    limits: TextureLimits,
    uvs: Singles | None,
    colors: Bytes,
) -> Paint:
    """Materials that paint alike become one; faces that nothing is seen through become opaque."""
    solid = (colors[:, :, 3] == 255).all(axis=1)
    number = 2 * rows + solid
    used = np.bincount(number, minlength=2 * len(kinds)) > 0
    merged: dict[PaintMaterial, int] = {}
    table = np.zeros(2 * len(kinds), np.int64)
    files = pictures.packed(limits)
    images = list(dict.fromkeys(files))  # a file may hold one picture under several names
    for index in np.flatnonzero(used):
        kind = kinds[index // 2]
        if kind.alpha == "blend" and index % 2 and not pictures.clear(kind.image):
            kind = replace(kind, alpha="opaque")
        if kind.image >= 0:
            kind = replace(kind, image=images.index(files[kind.image]))
        table[index] = merged.setdefault(kind, len(merged))
    return Paint(tuple(merged), table[number], tuple(images), uvs, None if (colors == 255).all() else colors)
