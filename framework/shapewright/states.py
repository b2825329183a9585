"""Values that flow between stages. Frozen, with their frame, resolution and sign convention on board.

Conventions: coordinates are int32 rows ``[batch, x, y, z]`` sorted by batch, then x, y, z; points are float in the
units of a :class:`Frame`; a signed distance is negative inside; features are ``(N, C)``. Everything that a learned
component passes on can be stacked into a batch and taken apart again without changing a bit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeVar, runtime_checkable

import torch
from torch import Tensor

from .errors import StateError
from .materials import Appearance

Derived = TypeVar("Derived")


@dataclass(frozen=True, slots=True)
class Frame:
    """Axis-aligned box that a value lives in, in the units of the normalised mesh. ``up`` is ``"y"`` or ``"z"``."""

    lower: tuple[float, float, float] = (-0.5, -0.5, -0.5)
    upper: tuple[float, float, float] = (0.5, 0.5, 0.5)
    up: str = "y"

    @property
    def extent(self) -> tuple[float, float, float]:
        """Edge lengths of the box."""
        x, y, z = (high - low for low, high in zip(self.lower, self.upper, strict=True))
        return x, y, z

    def grown(self, factor: float) -> Frame:
        """The box scaled about its centre.

        >>> Frame().grown(2.0).upper
        (1.0, 1.0, 1.0)
        """
        centre = [(low + high) / 2 for low, high in zip(self.lower, self.upper, strict=True)]
        half = [size / 2 * factor for size in self.extent]
        lower = (centre[0] - half[0], centre[1] - half[1], centre[2] - half[2])
        upper = (centre[0] + half[0], centre[1] + half[1], centre[2] + half[2])
        return replace(self, lower=lower, upper=upper)

    def with_margin(self, resolution: int, cells: float = 1.0) -> Frame:
        """The box enlarged so that, cut into ``resolution`` cells an axis, ``cells`` of them lie outside on each side.

        >>> Frame().with_margin(4, 1.0).upper
        (1.0, 1.0, 1.0)
        """
        if resolution <= 2 * cells:
            raise StateError(f"resolution {resolution} leaves no cell inside a margin of {cells:g}; use a larger one")
        return self.grown(resolution / (resolution - 2 * cells))


@runtime_checkable
class State(Protocol):
    """Anything that flows between stages. ``tag`` is what the planner sees; ``frame`` travels with the value."""

    tag: ClassVar[str]

    @property
    def frame(self) -> Frame: ...


@dataclass(frozen=True, slots=True)
class Mesh:
    """Triangle mesh; ``vertices`` ``(V, 3)`` float32 or float64, ``faces`` ``(F, 3)`` int64.

    ``oriented`` is honest: ``False`` where the winding carries no meaning (two-sided results, triangle soups).
    ``attributes`` are per-vertex tensors by name: ``color`` ``(V, 3 or 4)``, or what a material consists of,
    ``base_color`` ``(V, 3)``, ``metallic``, ``roughness`` and ``alpha`` ``(V, 1)``, all float in [0, 1].
    ``appearance`` are materials with textures, where they were asked for and there are any.
    """

    tag: ClassVar[str] = "mesh"
    vertices: Tensor
    faces: Tensor
    frame: Frame = Frame()
    oriented: bool = True
    attributes: dict[str, Tensor] = field(default_factory=dict)
    appearance: Appearance | None = None

    def __post_init__(self) -> None:
        for name, value in (("vertices", self.vertices), ("faces", self.faces)):
            if value.ndim != 2 or value.shape[1] != 3:
                raise StateError(f"mesh {name} must be (N, 3), not {tuple(value.shape)}")
        if self.faces.dtype != torch.int64:
            raise StateError(f"mesh faces must be int64, not {self.faces.dtype}")
        if self.appearance is not None and self.appearance.faces not in (None, len(self.faces)):
            raise StateError(f"the appearance is that of {self.appearance.faces} faces, the mesh has {len(self.faces)}")

    @property
    def corners(self) -> Tensor:
        """``(F, 3, 3)`` positions of the three corners of every face."""
        return self.vertices[self.faces]

    def _repr_html_(self) -> str:
        """A view to turn, for notebooks."""
        from .report.notebook import mesh_html

        return mesh_html(self)


@dataclass(frozen=True, slots=True)
class SparseTensor:
    """Coordinates ``(N, 4)`` int32 ``[batch, x, y, z]`` sorted by batch, features ``(N, C)``."""

    coords: Tensor
    feats: Tensor
    resolution: int
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.coords.ndim != 2 or self.coords.shape[1] != 4 or self.coords.dtype != torch.int32:
            raise StateError(f"coords must be int32 (N, 4), not {self.coords.dtype} {tuple(self.coords.shape)}")
        if self.feats.shape[:1] != self.coords.shape[:1]:
            raise StateError(f"feats has {self.feats.shape[0]} rows but coords has {self.coords.shape[0]}")

    def replace(self, feats: Tensor) -> Self:
        """Other features on the same coordinates."""
        return replace(self, feats=feats)

    @classmethod
    def stack(cls, items: Sequence[SparseTensor]) -> SparseTensor:
        """One batch of several; batch indices are renumbered in order."""
        _same([item.resolution for item in items], "resolution")
        coords, start = [], 0
        for item in items:
            coords.append(item.coords + item.coords.new_tensor([start, 0, 0, 0]))
            start += item.batch_size
        return cls(torch.cat(coords), torch.cat([item.feats for item in items]), items[0].resolution, start)

    def unbind(self) -> list[SparseTensor]:
        """The samples of the batch, each with batch index 0."""
        counts = torch.bincount(self.coords[:, 0].long(), minlength=self.batch_size).tolist()
        parts = zip(torch.split(self.coords, counts), torch.split(self.feats, counts), strict=True)
        return [
            SparseTensor(coords - coords.new_tensor([index, 0, 0, 0]), feats, self.resolution)
            for index, (coords, feats) in enumerate(parts)
        ]


def _same(values: Sequence[object], what: str) -> None:
    if any(value != values[0] for value in values):
        raise StateError(f"only states of one {what} can be stacked, not {', '.join(map(str, values))}")


# --- supports: the domain a latent lives on ---------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Tokens:
    """A set of ``count`` tokens without positions."""

    tag: ClassVar[str] = "support.tokens"
    count: int
    frame: Frame = Frame()


@dataclass(frozen=True, slots=True)
class Grid:
    """All cells of a cube of ``resolution`` cells an axis."""

    tag: ClassVar[str] = "support.grid"
    resolution: int
    frame: Frame = Frame()


@dataclass(frozen=True, slots=True)
class Voxels:
    """Some cells of a cube: ``coords`` ``(N, 4)`` int32."""

    tag: ClassVar[str] = "support.voxels"
    coords: Tensor
    resolution: int
    batch_size: int = 1
    frame: Frame = Frame()

    @classmethod
    def stack(cls, items: Sequence[Voxels]) -> Voxels:
        """One batch of several."""
        _same([item.frame for item in items], "frame")
        sparse = SparseTensor.stack(
            [SparseTensor(v.coords, v.coords[:, :0], v.resolution, v.batch_size) for v in items]
        )
        return cls(sparse.coords, sparse.resolution, sparse.batch_size, items[0].frame)

    def unbind(self) -> list[Voxels]:
        """The samples of the batch."""
        sparse = SparseTensor(self.coords, self.coords[:, :0], self.resolution, self.batch_size)
        return [Voxels(item.coords, item.resolution, 1, self.frame) for item in sparse.unbind()]


Support = Tokens | Grid | Voxels


# --- latents ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class LatentSpec:
    """What must match before one component's latent may enter another: compared when a pipeline is built."""

    channels: int
    stride: int = 1
    statistics: str = ""
    """Names the normalisation and the training run; latents with different names never mix."""


@dataclass(frozen=True, slots=True)
class TokenLatent:
    """``(B, N, C)`` unordered latent set."""

    tag: ClassVar[str] = "latent.tokens"
    values: Tensor
    frame: Frame = Frame()

    @classmethod
    def stack(cls, items: Sequence[TokenLatent]) -> TokenLatent:
        """One batch of several."""
        _same([item.frame for item in items], "frame")
        return cls(torch.cat([item.values for item in items]), items[0].frame)

    def unbind(self) -> list[TokenLatent]:
        """The samples of the batch."""
        return [TokenLatent(values, self.frame) for values in torch.split(self.values, 1)]


@dataclass(frozen=True, slots=True)
class GridLatent:
    """``(B, C, D, H, W)`` with D, H, W along x, y, z."""

    tag: ClassVar[str] = "latent.grid"
    values: Tensor
    frame: Frame = Frame()

    @classmethod
    def stack(cls, items: Sequence[GridLatent]) -> GridLatent:
        """One batch of several."""
        _same([item.frame for item in items], "frame")
        return cls(torch.cat([item.values for item in items]), items[0].frame)

    def unbind(self) -> list[GridLatent]:
        """The samples of the batch."""
        return [GridLatent(values, self.frame) for values in torch.split(self.values, 1)]


@dataclass(frozen=True, slots=True)
class SparseLatent:
    """Features on the voxels of a :class:`SparseTensor`."""

    tag: ClassVar[str] = "latent.sparse"
    values: SparseTensor
    frame: Frame = Frame()

    @classmethod
    def stack(cls, items: Sequence[SparseLatent]) -> SparseLatent:
        """One batch of several."""
        _same([item.frame for item in items], "frame")
        return cls(SparseTensor.stack([item.values for item in items]), items[0].frame)

    def unbind(self) -> list[SparseLatent]:
        """The samples of the batch."""
        return [SparseLatent(values, self.frame) for values in self.values.unbind()]


Latent = TokenLatent | GridLatent | SparseLatent


@dataclass(frozen=True, slots=True)
class Condition:
    """Tokens ``(B, T, C)`` that a generator attends to, their null counterpart for guidance, and a mask ``(B, T)``
    bool."""

    tag: ClassVar[str] = "condition"
    tokens: Tensor
    null: Tensor
    mask: Tensor | None = None
    frame: Frame = Frame()

    @classmethod
    def stack(cls, items: Sequence[Condition]) -> Condition:
        """One batch of several."""
        masks = [item.mask for item in items if item.mask is not None]
        if masks and len(masks) != len(items):
            raise StateError("conditions with and without a mask cannot be stacked")
        return cls(
            torch.cat([item.tokens for item in items]),
            torch.cat([item.null for item in items]),
            torch.cat(masks) if masks else None,
            items[0].frame,
        )

    def unbind(self) -> list[Condition]:
        """The samples of the batch."""
        masks = [None] * len(self.tokens) if self.mask is None else list(torch.split(self.mask, 1))
        pairs = zip(torch.split(self.tokens, 1), torch.split(self.null, 1), masks, strict=True)
        return [Condition(tokens, null, mask, self.frame) for tokens, null, mask in pairs]


@dataclass(frozen=True, slots=True)
class Layout:
    """Packed variable-length sequences: ``offsets`` ``(B + 1,)`` int32 or int64, where each sequence starts and the
    last one ends; ``coords`` ``(T, 3)`` int32 if tokens are voxels."""

    offsets: Tensor
    coords: Tensor | None = None
    resolution: int | None = None
    _memo: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def shared(self, key: Hashable, compute: Callable[[], Derived]) -> Derived:
        """``compute()``, once per layout and key: windows, orders and rotary phases follow from the layout alone, and
        all layers and sampling steps that are given one layout need them once."""
        if key not in self._memo:
            self._memo[key] = compute()
        value: Derived = self._memo[key]
        return value


# --- surfaces and volumes ---------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class SurfaceSamples:
    """Points ``(N, 3)`` on a surface with unit normals ``(N, 3)``."""

    tag: ClassVar[str] = "surface"
    points: Tensor
    normals: Tensor
    frame: Frame = Frame()


@dataclass(frozen=True, slots=True)
class OccupancyGrid:
    """Logits or probabilities ``(R, R, R)`` of cells, index order x, y, z; ``(B, R, R, R)`` for a batch."""

    tag: ClassVar[str] = "occupancy.grid"
    values: Tensor
    frame: Frame = Frame()

    @classmethod
    def stack(cls, items: Sequence[OccupancyGrid]) -> OccupancyGrid:
        """One batch of several."""
        _same([item.frame for item in items], "frame")
        parts = [item.values if item.values.ndim == 4 else item.values[None] for item in items]
        _same([tuple(part.shape[1:]) for part in parts], "resolution")
        return cls(torch.cat(parts), items[0].frame)

    def unbind(self) -> list[OccupancyGrid]:
        """The samples of the batch."""
        values = self.values if self.values.ndim == 4 else self.values[None]
        return [OccupancyGrid(sample, self.frame) for sample in values]


@dataclass(frozen=True, slots=True)
class OccupancyVoxels:
    """The occupied cells of a cube."""

    tag: ClassVar[str] = "occupancy.sparse"
    voxels: Voxels

    @property
    def frame(self) -> Frame:
        return self.voxels.frame


@dataclass(frozen=True, slots=True)
class VoxelAttributes:
    """Surface attributes on voxels; ``layout`` names the feature columns, e.g. ``{"base_color": slice(0, 3)}``.

    The published layout is :data:`PBR_LAYOUT`: six float columns in [0, 1], in the values of the textures.
    """

    tag: ClassVar[str] = "attributes.voxels"
    values: SparseTensor
    layout: dict[str, slice]
    frame: Frame = Frame()

    def __post_init__(self) -> None:
        width = self.values.feats.shape[1] if self.values.feats.ndim == 2 else 0
        for name, columns in self.layout.items():
            start, stop, step = columns.indices(width)
            if (columns.start or 0, columns.stop, step) != (start, stop, 1) or stop <= start:
                raise StateError(f"layout {name!r} {columns} does not name columns of {width}")

    def __getitem__(self, name: str) -> Tensor:
        """``(N, c)`` columns of one attribute."""
        if name not in self.layout:
            raise StateError(f"no attribute is named {name!r}; there is {', '.join(self.layout) or 'none'}")
        return self.values.feats[:, self.layout[name]]

    @classmethod
    def stack(cls, items: Sequence[VoxelAttributes]) -> VoxelAttributes:
        """One batch of several."""
        _same([(item.frame, str(item.layout)) for item in items], "frame and layout")
        return replace(items[0], values=SparseTensor.stack([item.values for item in items]))

    def unbind(self) -> list[VoxelAttributes]:
        """The samples of the batch."""
        return [replace(self, values=values) for values in self.values.unbind()]


PBR_LAYOUT = {
    "base_color": slice(0, 3),
    "metallic": slice(3, 4),
    "roughness": slice(4, 5),
    "alpha": slice(5, 6),
}
"""Columns of the material attributes of O-Voxel, in the order of the published files and networks."""


# --- scalar fields: one contract, three storages ----------------------------------------------------------------------
@runtime_checkable
class ScalarField(Protocol):
    """Signed distance, negative inside, in units of ``frame``; every storage answers ``query``."""

    @property
    def frame(self) -> Frame: ...

    def query(self, points: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class FunctionField:
    """A field that is only known as a function ``(..., 3)`` to ``(...)``, e.g. a latent set decoded by attention."""

    tag: ClassVar[str] = "sdf.function"
    function: Callable[[Tensor], Tensor]
    frame: Frame = Frame()

    def query(self, points: Tensor) -> Tensor:
        """Values ``(...)`` at ``points`` ``(..., 3)``."""
        return self.function(points)


@dataclass(frozen=True, slots=True)
class GridField:
    """Values ``(X, Y, Z)`` at the lattice points that span the frame, its faces included.

    ``resolution`` cells an axis mean ``resolution + 1`` lattice points: point ``(i, j, k)`` lies at
    ``lower + (i, j, k) * spacing``.
    """

    tag: ClassVar[str] = "sdf.grid"
    values: Tensor
    frame: Frame = Frame()
    level: float = 0.0
    """The surface is where the field takes this value; 0 for a signed distance, the shell radius for an unsigned
    one."""
    gradients: Tensor | None = None
    """``(X, Y, Z, 3)`` exact gradients at the lattice points, where the maker of the field knows them (Hermite
    data)."""

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or min(self.values.shape) < 2:
            raise StateError(
                f"a grid field needs (X, Y, Z) values with at least 2 an axis, not {tuple(self.values.shape)}"
            )

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring lattice points along each axis."""
        x, y, z = (size / (count - 1) for size, count in zip(self.frame.extent, self.values.shape, strict=True))
        return x, y, z

    def query(self, points: Tensor) -> Tensor:
        """Trilinear values ``(...)`` at ``points`` ``(..., 3)``; clamped to the border outside the frame."""
        low, high = (points.new_tensor(corner) for corner in (self.frame.lower, self.frame.upper))
        unit = (points - low) / (high - low) * 2 - 1
        grid = self.values.to(points.dtype).permute(2, 1, 0)[None, None]
        sampled = torch.nn.functional.grid_sample(
            grid, unit.reshape(1, -1, 1, 1, 3), align_corners=True, padding_mode="border"
        )
        return sampled.reshape(points.shape[:-1])


@dataclass(frozen=True, slots=True)
class SparseField:
    """Values at lattice points: ``values.coords`` are lattice indices ``0..resolution``, ``values.feats`` ``(N, 1)``.

    Lattice as in :class:`GridField`: ``values.resolution`` cells an axis. A cell is active when all its eight corners
    are present; an extractor sees active cells only, so that a missing cell is a hole and not an error.
    """

    tag: ClassVar[str] = "sdf.sparse"
    values: SparseTensor
    outside: float = 1.0
    """What ``query`` answers where no active cell lies."""
    frame: Frame = Frame()
    level: float = 0.0
    """As in :class:`GridField`."""
    gradients: Tensor | None = None
    """``(N, 3)``, as in :class:`GridField`."""

    def __post_init__(self) -> None:
        if self.values.feats.shape[1:] != (1,):
            raise StateError(f"a sparse field needs one value a lattice point, not {tuple(self.values.feats.shape)}")

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring lattice points along each axis."""
        x, y, z = (size / self.values.resolution for size in self.frame.extent)
        return x, y, z

    def query(self, points: Tensor) -> Tensor:
        """Trilinear values ``(...)`` at ``points`` ``(..., 3)``; ``outside`` where a corner is missing. One sample."""
        count = self.values.resolution + 1
        flat = points.reshape(-1, 3)
        low, spacing = flat.new_tensor(self.frame.lower), flat.new_tensor(self.spacing)
        position = ((flat - low) / spacing).clamp(0, self.values.resolution)
        base = position.floor().clamp(max=self.values.resolution - 1)
        offset = position - base
        keys = _lattice_keys(self.values.coords[:, 1:].long(), count)
        result, present = flat.new_zeros(len(flat)), torch.ones(len(flat), dtype=torch.bool, device=flat.device)
        for corner in range(8):
            step = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2 & 1], device=flat.device)
            wanted = _lattice_keys(base.long() + step, count)
            row = torch.searchsorted(keys, wanted).clamp(max=max(len(keys) - 1, 0))
            found = keys[row] == wanted if len(keys) else torch.zeros_like(present)
            weight = torch.where(step.bool(), offset, 1 - offset).prod(dim=1)
            result = result + weight * torch.where(
                found, self.values.feats[row, 0].to(flat.dtype), result.new_zeros(())
            )
            present &= found
        return torch.where(present, result, result.new_tensor(self.outside)).reshape(points.shape[:-1])

    @classmethod
    def stack(cls, items: Sequence[SparseField]) -> SparseField:
        """One batch of several."""
        _same([(item.frame, item.outside, item.level) for item in items], "frame, outside value and level")
        gradients = [item.gradients for item in items if item.gradients is not None]
        if gradients and len(gradients) != len(items):
            raise StateError("fields with and without gradients cannot be stacked")
        return replace(
            items[0],
            values=SparseTensor.stack([item.values for item in items]),
            gradients=torch.cat(gradients) if gradients else None,
        )

    def unbind(self) -> list[SparseField]:
        """The samples of the batch."""
        values = self.values.unbind()
        counts = [len(item.coords) for item in values]
        gradients = [None] * len(values) if self.gradients is None else list(torch.split(self.gradients, counts))
        return [replace(self, values=v, gradients=g) for v, g in zip(values, gradients, strict=True)]


def _lattice_keys(coords: Tensor, count: int) -> Tensor:
    return (coords[:, 0] * count + coords[:, 1]) * count + coords[:, 2]


@dataclass(frozen=True, slots=True)
class FlexibleDualGrid:
    """Geometry of an O-Voxel: where the surface crosses the grid, without a sign and without an orientation.

    Cell ``i`` of ``resolution`` spans ``lower + i * voxel_size`` to ``lower + (i + 1) * voxel_size``. With
    ``a0 = (a + 1) % 3`` and ``a1 = (a + 2) % 3``, flag ``a`` of voxel ``c`` belongs to the grid edge along ``a`` at the
    voxel's upper corner in ``a0`` and ``a1``; ``c``, ``c + e_a0``, ``c + e_a1`` and ``c + e_a0 + e_a1`` share it.
    """

    tag: ClassVar[str] = "dualgrid.flexible"
    coords: Tensor
    """``(N, 4)`` int32 ``[batch, x, y, z]``, sorted by batch, x, y, z, none twice."""
    dual_vertices: Tensor
    """``(N, 3)`` float position within the voxel, 0 to 1 along each axis; decoders may leave that range a little."""
    intersected: Tensor
    """``(N, 3)`` bool: the surface crosses the voxel's edge along x, y, z."""
    split_weights: Tensor | None = None
    """``(N, 1)`` positive float: a quad is cut along the diagonal with the larger product. Decoders make them."""
    resolution: int = 0
    batch_size: int = 1
    frame: Frame = field(default_factory=Frame)
    attributes: Mapping[str, Tensor] = field(default_factory=dict)
    """What the surface is made of, ``(N, C)`` float a voxel by name: ``base_color`` (3), ``metallic``, ``roughness``,
    ``alpha`` (1 each) in [0, 1]. Empty where the mesh had no material."""

    def __post_init__(self) -> None:
        count = self.coords.shape[0]
        if self.coords.ndim != 2 or self.coords.shape[1] != 4 or self.coords.dtype != torch.int32:
            raise StateError(f"coords must be int32 (N, 4), not {self.coords.dtype} {tuple(self.coords.shape)}")
        if tuple(self.dual_vertices.shape) != (count, 3) or not self.dual_vertices.is_floating_point():
            found = f"{self.dual_vertices.dtype} {tuple(self.dual_vertices.shape)}"
            raise StateError(f"dual_vertices must be float ({count}, 3), not {found}")
        if tuple(self.intersected.shape) != (count, 3) or self.intersected.dtype != torch.bool:
            found = f"{self.intersected.dtype} {tuple(self.intersected.shape)}"
            raise StateError(f"intersected must be bool ({count}, 3), not {found}")
        if self.split_weights is not None and tuple(self.split_weights.shape) != (count, 1):
            raise StateError(f"split_weights must be ({count}, 1), not {tuple(self.split_weights.shape)}")
        for name, values in self.attributes.items():
            if values.ndim != 2 or len(values) != count or not values.is_floating_point():
                raise StateError(
                    f"attribute {name!r} must be float ({count}, C), not {values.dtype} {tuple(values.shape)}"
                )
        if self.resolution < 1:
            raise StateError(f"a dual grid needs its resolution (cells an axis), not {self.resolution}")

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel, in units of the frame."""
        x, y, z = (size / self.resolution for size in self.frame.extent)
        return x, y, z

    @property
    def voxel_attributes(self) -> VoxelAttributes:
        """The attributes as one value of their own, columns in the order of ``attributes``.

        Raises:
            StateError: there is none.
        """
        if not self.attributes:
            raise StateError("this dual grid has no attributes: the mesh it was made of had no material")
        ends, layout = 0, {}
        for name, values in self.attributes.items():
            layout[name] = slice(ends, ends + values.shape[1])
            ends += values.shape[1]
        feats = torch.cat(list(self.attributes.values()), dim=1)
        return VoxelAttributes(SparseTensor(self.coords, feats, self.resolution, self.batch_size), layout, self.frame)

    @classmethod
    def stack(cls, items: Sequence[FlexibleDualGrid]) -> FlexibleDualGrid:
        """One batch of several; batch indices are renumbered in order."""
        first = items[0]
        if any((item.resolution, item.frame) != (first.resolution, first.frame) for item in items):
            raise StateError("only dual grids of one resolution and frame can be stacked")
        weights = [item.split_weights for item in items if item.split_weights is not None]
        if weights and len(weights) != len(items):
            raise StateError("dual grids with and without split weights cannot be stacked")
        widths = [{name: values.shape[1] for name, values in item.attributes.items()} for item in items]
        if any(found != widths[0] for found in widths):
            raise StateError("dual grids with different attributes cannot be stacked")
        coords, start = [], 0
        for item in items:
            coords.append(item.coords + item.coords.new_tensor([start, 0, 0, 0]))
            start += item.batch_size
        return replace(
            first,
            coords=torch.cat(coords),
            dual_vertices=torch.cat([item.dual_vertices for item in items]),
            intersected=torch.cat([item.intersected for item in items]),
            split_weights=torch.cat(weights) if weights else None,
            batch_size=start,
            attributes={name: torch.cat([item.attributes[name] for item in items]) for name in widths[0]},
        )

    def unbind(self) -> list[FlexibleDualGrid]:
        """The samples of the batch, each with batch index 0."""
        counts = torch.bincount(self.coords[:, 0].long(), minlength=self.batch_size).tolist()
        weights = [None] * len(counts) if self.split_weights is None else list(torch.split(self.split_weights, counts))
        attributes = {name: torch.split(values, counts) for name, values in self.attributes.items()}
        parts = zip(
            torch.split(self.coords, counts),
            torch.split(self.dual_vertices, counts),
            torch.split(self.intersected, counts),
            weights,
            strict=True,
        )
        return [
            replace(
                self,
                coords=coords - coords.new_tensor([index, 0, 0, 0]),
                dual_vertices=dual_vertices,
                intersected=intersected,
                split_weights=split_weights,
                batch_size=1,
                attributes={name: values[index] for name, values in attributes.items()},
            )
            for index, (coords, dual_vertices, intersected, split_weights) in enumerate(parts)
        ]


class Decoded(NamedTuple):
    """Result of :meth:`Encoder.decode`; field names are the port names."""

    state: State
    guides: tuple[SparseTensor, ...] = ()
