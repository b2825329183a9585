"""How a mesh looks: materials with textures, and which corner of which face meets which point of an image.

Colours are sRGB, as textures hold them: bytes of a texture over 255, times the material's factor, times the colour of
the corner. Readers bring factors and corner colours of formats that store linear light (glTF) to sRGB, writers bring
them back. ``v`` runs upward: ``v = 1`` is the upper edge of the first row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .errors import StateError

FILTERS = ("linear", "nearest")
WRAPS = ("repeat", "clamp", "mirror")
ALPHA_MODES = ("opaque", "mask", "blend")

Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """Some channels of an image, and how they are looked up."""

    pixels: Tensor
    """``(H, W, C)`` uint8, rows from top to bottom. Textures may share one image."""
    channels: tuple[int, ...] = (0, 1, 2)
    """Which of the ``C`` channels: three for a colour or a normal, one for the rest."""
    filter: str = "linear"
    """``linear`` (with smaller copies of the image where texels are smaller than what is sampled) or ``nearest``."""
    wrap: tuple[str, str] = ("repeat", "repeat")
    """Along u and v: ``repeat``, ``clamp`` or ``mirror``."""
    uv_set: int = 0
    """Row of :attr:`Appearance.uvs`."""
    name: str = ""

    def __post_init__(self) -> None:
        shape = tuple(self.pixels.shape)
        if self.pixels.dtype != torch.uint8 or len(shape) != 3 or 0 in shape:
            raise StateError(f"texture {self.name!r}: pixels must be uint8 (H, W, C), not {self.pixels.dtype} {shape}")
        if not self.channels or not all(0 <= channel < shape[2] for channel in self.channels):
            raise StateError(f"texture {self.name!r} has {shape[2]} channels, so {self.channels} are not all there")
        if self.filter not in FILTERS or not set(self.wrap) <= set(WRAPS) or len(self.wrap) != 2:
            known = f"filter is one of {', '.join(FILTERS)} and wrap two of {', '.join(WRAPS)}"
            raise StateError(f"texture {self.name!r}: {known}, not {self.filter!r} and {self.wrap}")
        if self.uv_set < 0:
            raise StateError(f"texture {self.name!r}: uv_set {self.uv_set} is negative")


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Metallic-roughness material; every texture is multiplied by its factor, ``None`` counts as all ones.

    The factors of a file that names none are 1 for ``metallic`` and ``roughness`` in glTF; the values here are those of
    a surface without any material, as the published toolkit fills it in.
    """

    name: str = ""
    base_color: Colour = (0.8, 0.8, 0.8)
    metallic: float = 0.0
    roughness: float = 0.5
    alpha: float = 1.0
    emissive: Colour = (0.0, 0.0, 0.0)
    base_color_texture: Texture | None = None
    metallic_texture: Texture | None = None
    roughness_texture: Texture | None = None
    alpha_texture: Texture | None = None
    emissive_texture: Texture | None = None
    normal_texture: Texture | None = None
    """Tangent-space normals, green up, 0 to 255 for -1 to 1."""
    alpha_mode: str = "opaque"
    """``opaque`` ignores alpha, ``mask`` keeps what is at least ``alpha_cutoff``, ``blend`` mixes."""
    alpha_cutoff: float = 0.5
    double_sided: bool = False

    def __post_init__(self) -> None:
        if self.alpha_mode not in ALPHA_MODES:
            raise StateError(
                f"material {self.name!r}: alpha_mode is one of {', '.join(ALPHA_MODES)}, not {self.alpha_mode!r}"
            )
        for slot, width in SLOTS.items():
            texture = self.texture(slot)
            if texture is not None and len(texture.channels) != width:
                raise StateError(
                    f"material {self.name!r}: {slot}_texture needs {width} channels, not {texture.channels}"
                )

    def texture(self, slot: str) -> Texture | None:
        """The texture of a slot of :data:`SLOTS`."""
        found: Texture | None = getattr(self, f"{slot}_texture")
        return found


SLOTS = {"base_color": 3, "metallic": 1, "roughness": 1, "alpha": 1, "emissive": 3, "normal": 3}
"""What a texture can be of, and its channels."""


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """Materials of a mesh of ``F`` faces; what belongs to a corner follows the corners of ``Mesh.faces``."""

    materials: tuple[Material, ...] = ()
    face_materials: Tensor | None = None
    """``(F,)`` int64 rows of ``materials``, -1 for none (:class:`Material` as it is by default). ``None``: all 0."""
    uvs: tuple[Tensor, ...] = ()
    """UV sets, each ``(F, 3, 2)`` float, finite; may leave [0, 1]. A texture whose set is missing is met at (0, 0)."""
    corner_colors: Tensor | None = None
    """``(F, 3, 3 or 4)`` float in [0, 1], multiplied with base colour and alpha."""
    corner_normals: Tensor | None = None
    """``(F, 3, 3)`` float: smooth shading. ``None``: to be derived from the faces."""

    def __post_init__(self) -> None:
        sizes = {name: len(value) for name, value in self._corner_tensors().items()}
        if len(set(sizes.values())) > 1:
            raise StateError(f"an appearance needs one row a face in everything, not {sizes}")
        for name, value in self._corner_tensors().items():
            widths = {"face_materials": (), "corner_colors": (3, 4), "corner_normals": (3,)}.get(name, (2,))
            fits = value.ndim == 3 and value.shape[1] == 3 and value.shape[2] in widths and value.is_floating_point()
            if name == "face_materials":
                fits = value.ndim == 1 and value.dtype == torch.int64
            if not fits:
                raise StateError(f"{name} of an appearance cannot be {value.dtype} {tuple(value.shape)}")
        rows = self.face_materials
        if rows is not None and len(rows) and not -1 <= int(rows.min()) <= int(rows.max()) < len(self.materials):
            raise StateError(
                f"face_materials refers to {int(rows.min())} .. {int(rows.max())} of {len(self.materials)} materials"
            )

    def _corner_tensors(self) -> dict[str, Tensor]:
        named = {"face_materials": self.face_materials, "corner_colors": self.corner_colors}
        named |= {"corner_normals": self.corner_normals}
        named |= {f"uvs[{index}]": uv for index, uv in enumerate(self.uvs)}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def faces(self) -> int | None:
        """Number of faces that it is made for; ``None`` where one material is all there is."""
        return next((len(value) for value in self._corner_tensors().values()), None)

    def select(self, rows: Tensor) -> Appearance:
        """The appearance of the faces ``rows`` ``(G,)`` int64 of the mesh, in that order."""

        def at(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[rows]

        return replace(
            self,
            face_materials=at(self.face_materials),
            uvs=tuple(uv[rows] for uv in self.uvs),
            corner_colors=at(self.corner_colors),
            corner_normals=at(self.corner_normals),
        )
