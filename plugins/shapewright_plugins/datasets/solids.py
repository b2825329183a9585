"""Closed stress shapes: nested spheres, bottle, wire, gears, spikes, knot, overlapping solids, lattice, pineapple.

These are S03 to S07, S09, S10, S13 and S14 of the suite. Every size, count and seed is a parameter; the defaults are
the shapes of the suite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .triangles import (
    Array,
    Triangles,
    box,
    concatenated,
    from_manifold,
    icosahedron,
    icosphere,
    revolved,
    rotation_about,
    rotation_from_uniforms,
    to_manifold,
    tube,
    union,
)

Profile = tuple[tuple[float, float], ...]

GLASS_PROFILE: Profile = (
    *((0.0, 0.0), (0.34, 0.0), (0.4, 0.06), (0.4, 1.15), (0.36, 1.35), (0.26, 1.45), (0.15, 1.5), (0.15, 1.9)),
    *((0.13, 1.9), (0.13, 1.5), (0.24, 1.44), (0.34, 1.33), (0.38, 1.14), (0.38, 0.09), (0.32, 0.04), (0.0, 0.04)),
)
LIQUID_PROFILE: Profile = ((0.0, 0.046), (0.316, 0.046), (0.374, 0.096), (0.374, 0.9), (0.0, 0.9))
CAP_PROFILE: Profile = ((0.0, 1.86), (0.17, 1.86), (0.17, 2.02), (0.0, 2.02))


@dataclass(frozen=True, slots=True)
class Material:
    """Constant surface attributes as in glTF: sRGB base colour, opacity, metallic and roughness, all in [0, 1]."""

    base_color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    alpha: float = 1.0
    metallic: float = 0.0
    roughness: float = 1.0


BOTTLE_MATERIALS = {
    "glass": Material((0.9, 0.95, 1.0), alpha=0.25, roughness=0.05),
    "liquid": Material((0.8, 0.2, 0.1), alpha=0.6),
    "balls": Material(metallic=1.0, roughness=0.3),
    "cap": Material(roughness=0.8),
}
"""Materials of the parts of :func:`bottle_parts`; what the suite leaves open has glTF's default."""


def nested_spheres(
    subdivisions: int = 5, *, radii: tuple[float, ...] = (1.0, 0.7, 0.4), cube: float = 0.3
) -> Triangles:
    """S03: spheres inside one another and a cube at the centre, all facing outward."""
    return concatenated([*(icosphere(subdivisions, radius) for radius in radii), box(cube)])


def ball_centres(count: int = 12, *, seed: int = 4, reach: float = 0.29, spacing: float = 0.13) -> Array:
    """Centres ``(count, 3)`` of the balls in the bottle: drawn one by one, kept inside and apart from those before."""
    random = np.random.default_rng(seed)
    centres: list[Array] = []
    while len(centres) < count:
        x, y = random.uniform(-reach, reach, 2)
        candidate = np.array([x, y, random.uniform(0.12, 0.85)])
        if np.hypot(x, y) < reach and all(np.linalg.norm(candidate - other) > spacing for other in centres):
            centres.append(candidate)
    return np.array(centres)


def bottle_parts(
    sectors: int = 96, *, balls: int = 12, ball_radius: float = 0.06, seed: int = 4
) -> dict[str, Triangles]:
    """The parts of S04 by material: ``glass``, ``liquid`` (0.006 from it), ``balls``, ``cap`` (overlaps the neck)."""
    return {
        "glass": revolved(GLASS_PROFILE, sectors),
        "liquid": revolved(LIQUID_PROFILE, sectors),
        "balls": concatenated([icosphere(3, ball_radius, centre) for centre in ball_centres(balls, seed=seed)]),
        "cap": revolved(CAP_PROFILE, sectors),
    }


def bottle(sectors: int = 96, *, balls: int = 12, ball_radius: float = 0.06, seed: int = 4) -> Triangles:
    """S04: a bottle of two-walled glass with liquid, balls and a cap."""
    return concatenated(list(bottle_parts(sectors, balls=balls, ball_radius=ball_radius, seed=seed).values()))


def thin_wire(steps: int = 2000, sides: int = 16, *, radius: float = 0.003, turns: float = 8.0) -> Triangles:
    """S05: a capped wire on a conical helix of height 1."""
    t = np.linspace(0, 1, steps + 1)
    reach = 0.5 * (1 - 0.3 * t)
    angle = 2 * np.pi * turns * t
    return tube(np.stack([reach * np.cos(angle), reach * np.sin(angle), t - 0.5], axis=1), radius, sides, closed=False)


def gear(teeth: int, bore: float, *, module: float = 0.1, width: float = 0.4, bore_sides: int = 64) -> Triangles:
    """A spur gear with straight-sided teeth, a round bore and a key slot, about the z axis."""
    from manifold3d import CrossSection, FillRule

    pitch = module * teeth / 2
    root, tip, h = pitch - 1.25 * module, pitch + module, np.pi / teeth
    outline = np.array([(root, -0.82), (pitch, -0.5), (tip, -0.25), (tip, 0.25), (pitch, 0.5), (root, 0.82)])
    angle = 2 * np.pi * np.arange(teeth)[:, None] / teeth + outline[:, 1] * h
    rim = np.stack([outline[:, 0] * np.cos(angle), outline[:, 0] * np.sin(angle)], axis=-1).reshape(-1, 2)
    around = 2 * np.pi * np.arange(bore_sides) / bore_sides
    hole = bore * np.stack([np.cos(around), np.sin(around)], axis=-1)
    slot = bore * np.array([(0, -0.24), (1.25, -0.24), (1.25, 0.24), (0, 0.24)])
    section = CrossSection([rim], FillRule.Positive)
    for cut in (hole, slot):
        section = section - CrossSection([cut], FillRule.Positive)
    return from_manifold(section.extrude(width))


def gears(
    teeth: tuple[int, int] = (24, 16),
    bores: tuple[float, float] = (0.35, 0.25),
    *,
    module: float = 0.1,
    width: float = 0.4,
) -> Triangles:
    """S06: two meshing gears whose teeth penetrate each other a little."""
    first, second = (gear(t, bore, module=module, width=width) for t, bore in zip(teeth, bores, strict=True))
    turn = rotation_about((0, 0, 1), np.pi / teeth[1])
    return concatenated([first, second.moved(turn=turn, shift=(module * sum(teeth) / 2, 0, 0))])


def spiked_icosahedron(apex: float = 2.2) -> Triangles:
    """S07: an icosahedron with a needle on every face; 90 edges, all sharp."""
    points, faces = icosahedron()
    centroid = points[faces].mean(axis=1)
    tips = apex * centroid / np.linalg.norm(centroid, axis=1, keepdims=True)
    number = np.arange(len(faces)) + len(points)
    sides = [np.stack([faces[:, i], faces[:, (i + 1) % 3], number], axis=1) for i in range(3)]
    return Triangles(np.concatenate([points, tips]), np.concatenate(sides))


def trefoil_knot(points: int = 600, sides: int = 32, *, radius: float = 0.35) -> Triangles:
    """S09: a trefoil; strands at least 0.96 apart."""
    t = 2 * np.pi * np.arange(points) / points
    reach = 2 + np.cos(3 * t)
    line = np.stack([reach * np.cos(2 * t), reach * np.sin(2 * t), np.sin(3 * t)], axis=1)
    return tube(line, radius, sides, closed=True)


def overlapping_parts(count: int = 12, *, seed: int = 10, subdivisions: int = 3) -> list[Triangles]:
    """The parts of S10: spheres and turned boxes at random places, in turn."""
    random = np.random.default_rng(seed)
    parts = []
    for index in range(count):
        centre = random.uniform(-0.5, 0.5, 3)
        if index % 2 == 0:
            parts.append(icosphere(subdivisions, random.uniform(0.25, 0.45), centre))
        else:
            size = random.uniform(0.35, 0.8, 3)
            parts.append(box(size).moved(turn=rotation_from_uniforms(random.random(3)), shift=centre))
    return parts


def overlapping_solids(count: int = 12, *, seed: int = 10) -> Triangles:
    """S10a: parts that overlap, side by side in one mesh, no boolean."""
    return concatenated(overlapping_parts(count, seed=seed))


def overlapping_union(count: int = 12, *, seed: int = 10) -> Triangles:
    """S10b: the exact union of the parts of S10a."""
    return union(overlapping_parts(count, seed=seed))


def cubic_lattice(nodes: int = 5, *, half_width: float = 0.06, spacing: float = 1.0) -> Triangles:
    """S13: square bars along the lines of a cubic grid; only right angles, high genus."""
    length = (nodes - 1) * spacing
    bars = []
    for axis in range(3):
        size = np.full(3, 2 * half_width)
        size[axis] = length + 2 * half_width
        for i in range(nodes):
            for j in range(nodes):
                offset = np.array([i, j]) * spacing - length / 2
                bars.append(box(size, np.insert(offset, axis, 0.0)))
    return union(bars)


def pineapple(
    spikes: int = 420,
    *,
    axes: tuple[float, float, float] = (0.6, 0.6, 0.8),
    spike_radius: float = 0.03,
    spike_height: float = 0.11,
    spike_sides: int = 8,
    sunk: float = 0.02,
    subdivisions: int = 5,
) -> Triangles:
    """S14: an ellipsoid with cones at Fibonacci directions, in one exact union; the tips go to width 0."""
    from manifold3d import Manifold, OpType

    index = np.arange(spikes)
    polar = np.arccos(1 - 2 * (index + 0.5) / spikes)
    azimuth = np.pi * (1 + 5**0.5) * (index + 0.5)
    directions = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=1)
    normals = directions / np.array(axes)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    feet = directions * np.array(axes) - sunk * normals
    cone = Manifold.cylinder(spike_height, spike_radius, 0.0, spike_sides)
    body = to_manifold(icosphere(subdivisions).moved(scale=axes))
    solids = [body]
    for foot, normal in zip(feet, normals, strict=True):
        solids.append(cone.transform(np.column_stack([_upright(normal), foot])))
    return from_manifold(Manifold.batch_boolean(solids, OpType.Add))


def _upright(normal: Array) -> Array:
    """The shortest rotation that takes z to ``normal``."""
    axis = np.cross((0, 0, 1), normal)
    length = np.linalg.norm(axis)
    if length < 1e-12:
        return np.diag([1.0, np.sign(normal[2]), np.sign(normal[2])])
    return rotation_about(axis, float(np.arctan2(length, normal[2])))
