"""Answers to the golden cases of sampled attributes, codes and voxel files of TRELLIS.2."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from shapewright.parity import Answer, Difference, GoldenCase
from shapewright_kernels import voxel_octree as octree
from shapewright_kernels.texture_sampling import ImageTexture
from shapewright_kernels.voxel_attributes import SurfaceMaterial, quantised, sample_materials
from shapewright_kernels.voxel_attributes_sums import SLOTS, WIDTHS
from torch import Tensor

from .voxel_files import ply_bytes, read_ply
from .voxel_table import VoxelTable
from .vxz import read_vxz, read_vxz_header, vxz_bytes

TRUNCATION = 1e-3
"""A byte may differ by one where the value lies this close to the next whole one (rule of the stored cases)."""


def attributes_case(case: GoldenCase) -> Answer:
    """Component ``textured_mesh_to_volumetric_attr``: rows by Morton code, values and the bytes made of them."""
    config, inputs = case.config, case.inputs
    triangles = inputs["triangles"].numpy(force=True)
    extent = np.subtract(*np.asarray(config["aabb"], np.float32)[::-1])
    names = [slot for slot in SLOTS if f"f32.{slot}" in case.outputs or f"u8.{slot}" in case.outputs]
    normals = inputs.get("normals")
    voxels = sample_materials(
        triangles.reshape(-1, 3),
        np.arange(3 * len(triangles)).reshape(-1, 3),
        [_material(case, number, body) for number, body in enumerate(config["materials"])],
        face_materials=inputs["material_ids"].numpy(force=True),
        uvs=inputs["uvs"].numpy(force=True)[:, None] if "uvs" in inputs else None,
        corner_normals=None if normals is None else normals.numpy(force=True),
        grid_size=config.get("grid_size"),
        voxel_size=config.get("voxel_size"),
        aabb=[[0.0, 0.0, 0.0], extent.tolist()],
        attributes=names,
        mip_level_offset=config.get("mip_level_offset", 0.0),
    )
    order = np.argsort(octree.morton_codes(voxels.coords), kind="stable")
    values = {"coords": torch.from_numpy(voxels.coords[order])}
    rules = {}
    for name in names:
        found = np.ascontiguousarray(voxels[name][order])
        packed = quantised(found, signed=name == "normal")
        wanted = case.outputs.get(f"f32.{name}")
        flat = wanted is not None and wanted.ndim == 1
        values[f"f32.{name}"] = torch.from_numpy(found[:, 0] if flat else found)
        values[f"u8.{name}"] = torch.from_numpy(packed)
        exact_bytes = (found * 0.5 + 0.5 if name == "normal" else found).astype(np.float64) * 255
        rules[f"u8.{name}"] = _bytes_rule(torch.from_numpy(np.abs(exact_bytes - np.round(exact_bytes)) <= TRUNCATION))
    return Answer({key: value for key, value in values.items() if key in case.outputs}, rules)


def _bytes_rule(borderline: Tensor) -> Any:
    def rule(got: Tensor, wanted: Tensor) -> Difference:
        off = (got.long() - wanted.long()).abs()
        ok = bool(((off == 0) | ((off == 1) & borderline.reshape(off.shape))).all())
        largest = float(off.max()) if off.numel() else 0.0
        return Difference(ok, largest, largest, "exact, 1 at the borders of truncation")

    return rule


def _material(case: GoldenCase, number: int, body: dict[str, Any]) -> SurfaceMaterial:
    textures = {}
    for slot, width in zip(SLOTS, WIDTHS, strict=True):
        stored = case.inputs.get(f"mat{number}.{slot}")
        if stored is None:
            continue
        pixels = stored.numpy(force=True)
        pixels = np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[..., None])
        wrap = int(body[f"{slot}_wrap"])
        textures[slot] = ImageTexture(pixels, tuple(range(width)), body[f"{slot}_filter"] == 1, (wrap, wrap))
    return SurfaceMaterial(
        tuple(body["base_color_factor"]),
        body["metallic_factor"],
        body["roughness_factor"],
        body["alpha_factor"],
        tuple(body["emissive_factor"]),
        textures,
        body["alpha_mode"],
        body["alpha_cutoff"],
    )


def octree_case(case: GoldenCase) -> Answer:
    """Component ``svo``: octree bytes and both predictors, each way."""
    depth = case.config["depth"]
    codes = case.inputs["morton"].numpy(force=True).astype(np.int64)
    attributes = case.inputs["attr"].numpy(force=True)
    tree = octree.encode_octree(codes, depth)
    parent, neighbor = (f(codes, depth, attributes) for f in (octree.encode_parent, octree.encode_neighbor))
    back = [octree.decode_parent(codes, depth, parent), octree.decode_neighbor(codes, depth, neighbor)]
    if not np.array_equal(octree.decode_octree(tree, depth), codes) or not all((b == attributes).all() for b in back):
        raise ValueError("decoding what was encoded gives something else")
    values = {"svo": tree, "attr_parent": parent, "attr_neighbor": neighbor}
    return Answer({name: torch.from_numpy(value) for name, value in values.items()})


def vxz_case(case: GoldenCase) -> Answer:
    """Component ``vxz``: what is read from the file; what is written from that has to read alike.

    (With one version of the compressors it is the same bytes, which our tests hold it to.)
    """
    data = case.inputs["file"].numpy(force=True).tobytes()
    header, table = read_vxz_header(io.BytesIO(data)), read_vxz(io.BytesIO(data))
    again = vxz_bytes(
        VoxelTable(table.coords, table.attributes),
        chunk_size=header.chunk_size,
        filter=header.filter,
        compression=header.compression,
        compression_level=header.level,
        attr_interleave=header.interleave,
    )
    back = read_vxz(io.BytesIO(again))
    same = all(np.array_equal(back.attributes[name], values) for name, values in table.attributes.items())
    if not same or not np.array_equal(back.coords, table.coords) or (header.compression == "none" and again != data):
        raise ValueError("the file written from what was read is another one")
    return _table_answer(case, table)


def ply_case(case: GoldenCase) -> Answer:
    """Component ``ply``: likewise."""
    data = case.inputs["file"].numpy(force=True).tobytes()
    table = read_ply(data)
    if ply_bytes(table) != data:
        raise ValueError("the file written from what was read has other bytes")
    return _table_answer(case, table)


def _table_answer(case: GoldenCase, table: VoxelTable) -> Answer:
    values = {f"attr.{name}": torch.from_numpy(value.copy()) for name, value in table.attributes.items()}
    values["coords"] = torch.from_numpy(table.coords).to(case.outputs["coords"].dtype)
    return Answer(values)
