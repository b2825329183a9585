"""Metallic-roughness shading under a small environment: a sky, a ground and three lights, without shadows."""

from __future__ import annotations

import numpy as np
from shapewright.srgb import to_linear, to_srgb
from shapewright_kernels.arrays import Floats

from .lookup import Look

SKY, GROUND = (0.55, 0.62, 0.72), (0.28, 0.26, 0.24)
LIGHTS = (((0.45, 0.75, 0.48), 2.2), ((-0.7, 0.35, 0.3), 0.9), ((0.1, 0.4, -0.9), 0.7))
"""Directions in the frame of the camera (right, up, backward), and strengths."""
DIELECTRIC = 0.04


def shade(look: Look, normals: Floats, views: Floats, rotation: Floats) -> Floats:
    """sRGB colours ``(N, 3)`` of points that are lit.

    Lambert diffuse; specular with the distribution of Trowbridge and Reitz, Smith's masking and Schlick's Fresnel term;
    the environment's mirror image is the sky gradient, blurred by roughness; the filmic curve of Narkowicz 2015.

    Args:
        normals, views: ``(N, 3)`` unit vectors in world space; views point to the camera.
        rotation: ``(3, 3)`` world to camera: the lights move with the camera, so no side of a shape stays dark.
    """
    base, metal = to_linear(look.base_color), look.metallic
    rough = np.maximum(look.roughness, 0.05)
    alpha2 = rough**4
    f0 = DIELECTRIC * (1 - metal) + base * metal
    n_v = np.maximum(_dot(normals, views), 1e-4)
    mirrored = 2 * _dot(normals, views) * normals - views
    up = rotation[1]
    diffuse = _sky(normals @ up, 1.0)
    blur = _sky(mirrored @ up, rough)
    grazing = f0 + (np.maximum(1 - rough, f0) - f0) * (1 - n_v) ** 5
    light = base * (1 - metal) * (1 - grazing) * diffuse + grazing * blur
    for direction, strength in LIGHTS:
        way = np.asarray(direction) @ rotation
        way = way / np.linalg.norm(way)
        n_l = np.maximum(normals @ way, 0.0)[:, None]
        half = views + way
        half = half / np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-9)
        n_h, v_h = np.clip(_dot(normals, half), 0, 1), np.clip(_dot(views, half), 0, 1)
        spread = alpha2 / np.maximum(np.pi * (n_h**2 * (alpha2 - 1) + 1) ** 2, 1e-9)
        masking = n_l * np.sqrt(n_v**2 * (1 - alpha2) + alpha2) + n_v * np.sqrt(n_l**2 * (1 - alpha2) + alpha2)
        fresnel = f0 + (1 - f0) * (1 - v_h) ** 5
        mirror = fresnel * spread * 0.5 / np.maximum(masking, 1e-6)
        light = light + strength * n_l * (base * (1 - metal) * (1 - fresnel) / np.pi + mirror)
    filmic = light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)
    return to_srgb(np.clip(filmic, 0.0, 1.0))


def _dot(a: Floats, b: Floats) -> Floats:
    return np.asarray((a * b).sum(axis=1, keepdims=True), np.float64)


def _sky(height: Floats, blur: Floats | float) -> Floats:
    """Gradient from the ground to the sky at directions of this height (-1 to 1)."""
    sharp = np.asarray(height)[:, None] / (0.15 + 0.85 * np.asarray(blur))
    share = np.clip(0.5 + 0.5 * sharp, 0.0, 1.0)
    return np.asarray(np.asarray(GROUND) + (np.asarray(SKY) - np.asarray(GROUND)) * share, np.float64)
