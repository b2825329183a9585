"""Attributes of the vertices that training puts into the middles of quads."""

from __future__ import annotations

import torch
from shapewright.states import FlexibleDualGrid
from shapewright_plugins.o_voxel.extractor import Config, FlexibleDualGridMesh


def test_a_middle_has_the_mean_attributes_of_its_four_voxels() -> None:
    coords = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 1, 1]], dtype=torch.int32)
    crossed = torch.zeros(4, 3, dtype=torch.bool)
    crossed[0, 0] = True
    values = torch.tensor([[0.1], [0.3], [0.7], [0.5]])
    state = FlexibleDualGrid(coords, torch.full((4, 3), 0.5), crossed, resolution=2, attributes={"metallic": values})
    mesh = FlexibleDualGridMesh(Config(mode="train")).extract(state)
    assert mesh.vertices.shape == (5, 3)
    torch.testing.assert_close(mesh.attributes["metallic"], torch.cat([values, values.mean(dim=0, keepdim=True)]))
    torch.testing.assert_close(mesh.vertices[4], mesh.vertices[:4].mean(dim=0))
