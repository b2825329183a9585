"""Dual grids with their attributes as voxel files: bytes as the published toolkit packs them, and where they belong.

Geometry is ``vertices`` (3 bytes, position in the voxel times 255) and ``intersected`` (bits 1, 2, 4 for x, y, z);
materials are ``base_color``, ``metallic``, ``roughness``, ``alpha``. Source: TRELLIS.2, spec sections 1.6 and 2.3.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from shapewright.normalise import Placement
from shapewright.states import FlexibleDualGrid, Frame
from shapewright_kernels.voxel_attributes import quantised
from shapewright_kernels.voxel_octree import morton_codes

from .voxel_files import load_voxel_file, npz_bytes, ply_bytes
from .voxel_table import VoxelFileError, VoxelTable
from .vxz import load_vxz, load_vxz_header, vxz_bytes

VXZ_CODEC, VXZ_LEVEL = "deflate", 6
"""How states are stored in .vxz files: nine times as fast as the published default (lzma, level 9), a tenth larger;
every reader of the format takes either."""


def table_of(state: FlexibleDualGrid, placement: Placement | None = None) -> VoxelTable:
    """The bytes of one dual grid, rows by Morton code; resolution, frame and placement become metadata.

    Raises:
        VoxelFileError: a batch of several, or dual vertices outside their voxels by more than a thousandth.
    """
    if state.batch_size != 1:
        raise VoxelFileError(f"a voxel file holds one sample, not a batch of {state.batch_size}; unbind it first")
    coords = state.coords[:, 1:].numpy(force=True)
    relative = state.dual_vertices.detach().float().numpy(force=True)
    if len(relative) and not (relative.min() >= -1e-3 and relative.max() <= 1 + 1e-3):
        raise VoxelFileError("dual vertices outside their voxels cannot be stored as bytes")
    flags = state.intersected.numpy(force=True)
    packed = {
        "vertices": quantised(relative),
        "intersected": (flags[:, :1] + 2 * flags[:, 1:2] + 4 * flags[:, 2:]).astype(np.uint8),
    }
    packed |= {name: quantised(values.detach().float().numpy(force=True)) for name, values in state.attributes.items()}
    frame = state.frame
    metadata = {"resolution": state.resolution, "lower": frame.lower, "upper": frame.upper, "up": frame.up}
    if placement is not None:
        metadata |= {"centre": placement.centre, "scale": placement.scale}
    return VoxelTable(coords, packed, metadata).select(np.argsort(morton_codes(coords), kind="stable"))


def state_of(table: VoxelTable) -> tuple[FlexibleDualGrid, Placement]:
    """The dual grid of a file, and where it belongs.

    Raises:
        VoxelFileError: the file has no geometry, or does not say its resolution (files of the published toolkit and
            .npz and .ply files do not: ``table.metadata`` may be filled in by the caller).
    """
    missing = [name for name in ("vertices", "intersected") if name not in table.attributes]
    if missing:
        raise VoxelFileError(f"the file holds no geometry: {' and '.join(missing)} missing, so it cannot become a mesh")
    try:
        body = table.metadata
        resolution, lower, upper = int(body["resolution"]), tuple(body["lower"]), tuple(body["upper"])
        frame = Frame(tuple(map(float, lower)), tuple(map(float, upper)), str(body.get("up", "y")))  # type: ignore[arg-type]
        x, y, z = map(float, body.get("centre", (0.0, 0.0, 0.0)))
        placement = Placement((x, y, z), float(body.get("scale", 1.0)))
    except KeyError as error:
        raise VoxelFileError(f"the file does not say its {error.args[0]}; only .vxz files written here do") from None
    except (TypeError, ValueError) as error:
        raise VoxelFileError(f"the metadata of the file are damaged ({error})") from None
    whole = [*frame.lower, *frame.upper, *placement.centre, placement.scale]
    sized = len(frame.lower) == len(frame.upper) == 3 and all(e > 0 for e in frame.extent) and placement.scale > 0
    if not (1 <= resolution <= 1 << 20 and np.isfinite(whole).all() and sized):
        raise VoxelFileError("the metadata of the file are damaged (resolution, frame or scale out of range)")
    coords = table.coords
    if len(coords) and int(coords.max()) >= resolution:
        raise VoxelFileError(f"a voxel lies at {int(coords.max())}, outside the resolution {resolution}")
    order = np.lexsort(coords.T[::-1])
    rows = np.zeros((len(coords), 4), np.int32)
    rows[:, 1:] = coords[order]
    if len(rows) and not (np.diff(rows, axis=0) != 0).any(axis=1).all():
        raise VoxelFileError("a voxel is there twice")
    for name, width in (("vertices", 3), ("intersected", 1)):
        if table.attributes[name].shape[1] != width:
            raise VoxelFileError(f"{name} has {table.attributes[name].shape[1]} channels, not {width}")
    values = {name: torch.from_numpy(data[order]) for name, data in table.attributes.items()}
    bits = values.pop("intersected")
    state = FlexibleDualGrid(
        torch.from_numpy(rows),
        values.pop("vertices").float() / 255,
        (bits >> torch.tensor([0, 1, 2], dtype=torch.uint8) & 1).bool(),
        resolution=resolution,
        frame=frame,
        attributes={name: data.float() / 255 for name, data in values.items()},
    )
    return state, placement


def read_state(path: Path) -> tuple[FlexibleDualGrid, Placement]:
    """The dual grid of a file."""
    table = load_vxz(path) if path.suffix.lower() == ".vxz" else load_voxel_file(path)
    try:
        return state_of(table)
    except VoxelFileError as error:
        raise VoxelFileError(f"{path}: {error}") from None


def write_state(state: FlexibleDualGrid, placement: Placement, path: Path) -> None:
    """Write a dual grid by the extension of ``path``."""
    table = table_of(state, placement)
    if path.suffix.lower() == ".vxz":
        path.write_bytes(vxz_bytes(table, compression=VXZ_CODEC, compression_level=VXZ_LEVEL))
        return
    path.write_bytes((npz_bytes if path.suffix.lower() == ".npz" else ply_bytes)(table))


def describe(path: Path) -> dict[str, Any]:
    """What is inside, by name; of a .vxz file from its header alone."""
    if path.suffix.lower() != ".vxz":
        table = load_voxel_file(path)
        return {
            "voxels": len(table.coords),
            "attributes": {k: f"{v.shape[1]} bytes" for k, v in table.attributes.items()},
        }
    header = load_vxz_header(path)
    facts: dict[str, Any] = {
        "voxels": header.voxels,
        "attributes": {name: f"{channels} bytes" for name, channels in header.attributes},
        "chunks": f"{len(header.chunks)} of {header.chunk_size} voxels an axis",
        "compression": f"{header.compression} {header.level}, predictor {header.filter}, {header.interleave}",
        "size": f"{header.file_size:,} bytes, {header.raw_size:,} without compression",
    }
    return facts | {key: list(v) if isinstance(v, tuple) else v for key, v in header.metadata.items()}
