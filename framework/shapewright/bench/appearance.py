"""Whether and how shapes of a bench look: what goes into cache keys, and a shape with everything to warm up on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..materials import Appearance, Material, Texture
from ..states import Mesh


def appearance_hash(mesh: Mesh) -> str:
    """Hash of everything that decides the look of a mesh besides its geometry; empty where it has none.

    >>> appearance_hash(Mesh(torch.eye(3), torch.tensor([[0, 1, 2]])))
    ''
    """
    if not mesh.attributes and mesh.appearance is None:
        return ""
    digest = hashlib.sha256()
    images: dict[int, bytes] = {}
    for part in _parts((sorted(mesh.attributes.items()), mesh.appearance), images):
        digest.update(part)
    return digest.hexdigest()


def _parts(value: Any, images: dict[int, bytes]) -> Iterator[bytes]:
    """Bytes of a nested value, unambiguous. Textures that share an image have it hashed once."""
    if isinstance(value, Tensor):
        if id(value) not in images:
            data: Any = value.detach().cpu().contiguous().numpy()
            images[id(value)] = hashlib.sha256(data).digest()
        yield f"{value.dtype}{tuple(value.shape)}".encode() + images[id(value)]
    elif is_dataclass(value):
        yield f"{type(value).__name__}(".encode()
        for field in fields(value):
            yield f"{field.name}=".encode()
            yield from _parts(getattr(value, field.name), images)
        yield b")"
    elif isinstance(value, tuple | list):
        yield f"{len(value)}[".encode()
        for item in value:
            yield from _parts(item, images)
        yield b"]"
    else:
        yield f"{value!r};".encode()


def textured(mesh: Mesh) -> Mesh:
    """``mesh`` with a small texture in every slot that components look up; opaque, so that one layer is drawn."""
    pixels = (torch.arange(4 * 4 * 4) * 37 % 256).reshape(4, 4, 4).to(torch.uint8)
    material = Material(
        "warm-up",
        base_color_texture=Texture(pixels),
        metallic_texture=Texture(pixels, (0,)),
        roughness_texture=Texture(pixels, (1,)),
        alpha_texture=Texture(pixels, (3,)),
    )
    corners = mesh.corners.float()
    return replace(mesh, appearance=Appearance((material,), uvs=(corners[:, :, :2].clone(),)))
