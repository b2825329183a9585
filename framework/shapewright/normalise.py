"""The frame in which shapes are represented and compared (``box1``), and the way back to a file's own coordinates."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .errors import MeshError
from .states import Frame, Mesh


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a normalised shape came from: ``original = normalised * scale + centre``, in float64."""

    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0
    """Largest extent of the original bounding box."""

    def to_frame(self, points: Tensor) -> Tensor:
        """Points ``(..., 3)`` of the original as float64 points of the unit box."""
        points = points.double()
        return (points - points.new_tensor(self.centre)) / self.scale

    def to_original(self, points: Tensor) -> Tensor:
        """Points ``(..., 3)`` of the unit box as float64 points of the original."""
        points = points.double()
        return points * self.scale + points.new_tensor(self.centre)

    def place(self, mesh: Mesh) -> Mesh:
        """``mesh`` moved from original coordinates into the unit box."""
        return replace(mesh, vertices=self.to_frame(mesh.vertices), frame=Frame(up=mesh.frame.up))

    def restore(self, mesh: Mesh) -> Mesh:
        """``mesh`` moved from the unit box to original coordinates; its frame moves along."""
        corners = self.to_original(torch.tensor([mesh.frame.lower, mesh.frame.upper], dtype=torch.float64)).tolist()
        frame = Frame(tuple(corners[0]), tuple(corners[1]), mesh.frame.up)
        return replace(mesh, vertices=self.to_original(mesh.vertices), frame=frame)


def bounding_frame(mesh: Mesh, up: str = "y") -> Frame:
    """The bounding box of the vertices that faces use. Raises :class:`MeshError` without faces or finite positions."""
    if not len(mesh.faces):
        raise MeshError("a mesh without faces has no bounding box")
    used = mesh.vertices.detach()[mesh.faces.reshape(-1)]
    low, high = used.amin(dim=0).tolist(), used.amax(dim=0).tolist()
    if not all(abs(value) < float("inf") for value in (*low, *high)):
        raise MeshError("a mesh with non-finite vertices has no bounding box; load it with repair")
    return Frame(tuple(low), tuple(high), up)


def normalise(mesh: Mesh) -> tuple[Mesh, Placement]:
    """``mesh`` centred at its bounding box and scaled uniformly to largest extent 1 (protocol ``box1``), in float64.

    Returns:
        The mesh in ``Frame()``, and the :class:`Placement` that maps results back.
    Raises:
        MeshError: no faces, non-finite vertices, or all vertices at one point.

    >>> square = Mesh(torch.tensor([[0.0, 0, 0], [4, 0, 0], [4, 2, 0]]), torch.tensor([[0, 1, 2]]))
    >>> normalise(square)[0].vertices.tolist()
    [[-0.5, -0.25, 0.0], [0.5, -0.25, 0.0], [0.5, 0.25, 0.0]]
    """
    box = bounding_frame(mesh, mesh.frame.up)
    scale = max(box.extent)
    if not 0 < scale < float("inf"):
        reason = "all vertices lie at one point" if scale == 0 else "the extent exceeds float64"
        raise MeshError(f"the mesh cannot be normalised: {reason}")
    x, y, z = (low + (high - low) / 2 for low, high in zip(box.lower, box.upper, strict=True))
    placement = Placement((x, y, z), scale)
    placed = placement.place(mesh)
    used = torch.zeros(len(mesh.vertices), dtype=torch.bool, device=mesh.vertices.device)
    used[mesh.faces.reshape(-1)] = True
    # The division may round the outermost vertices past the frame by one unit in the last place.
    inside = torch.where(used[:, None], placed.vertices.clamp(-0.5, 0.5), placed.vertices)
    return replace(placed, vertices=inside), placement


def content_hash(mesh: Mesh) -> str:
    """SHA-256 of the geometry: positions as float64 and faces as int64, in their order. Attributes do not count.

    >>> triangle = Mesh(torch.eye(3), torch.tensor([[0, 1, 2]]))
    >>> content_hash(triangle) == content_hash(Mesh(torch.eye(3).double(), torch.tensor([[0, 1, 2]])))
    True
    """
    vertices = mesh.vertices.detach().cpu().double().numpy() + 0.0  # -0.0 becomes 0.0: the same place
    faces = mesh.faces.cpu().contiguous().numpy()
    digest = hashlib.sha256(f"{len(vertices)} {len(faces)}\n".encode())
    digest.update(vertices.astype("<f8").tobytes())
    digest.update(faces.astype("<i8").tobytes())
    return digest.hexdigest()
