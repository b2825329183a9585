"""Materials of OBJ: the ``.mtl`` files beside it. ``Pm``, ``Pr`` and their maps are used, shininess is not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..materials import Material, Texture
from .texture_files import Images, alpha_channel, colour_channels


def read_libraries(folder: Path, libraries: Sequence[str], notes: Counter[str]) -> dict[str, Material]:
    """Materials by name of all libraries; without ``Pm`` and ``Pr`` a surface is neither metal nor glossy."""
    images = Images(notes)
    found: dict[str, Material] = {}
    for library in dict.fromkeys(libraries):
        found |= _read_library(folder, library, images)
    return found


def _read_library(folder: Path, library: str, images: Images) -> dict[str, Material]:
    try:
        text = _beside(folder, library).read_text("utf-8", "replace")
    except (OSError, ValueError) as error:
        images.notes[f"material library {library[:60]} ({getattr(error, 'strerror', None) or error})"] += 1
        return {}
    bodies: dict[str, dict[str, str]] = {}
    current: dict[str, str] | None = None
    for line in text.splitlines():
        key, _, rest = line.strip().replace("\t", " ").partition(" ")
        if key == "newmtl":
            current = bodies.setdefault(rest.strip(), {})
        elif current is not None and rest:
            current[key.lower()] = rest.strip()
    return {name: _material(name, body, folder, images) for name, body in bodies.items()}


def _beside(folder: Path, name: str) -> Path:
    """A file that a path in an OBJ or MTL file means: from ``folder``; where it is not there, as many archives are
    packed, the file of that name in ``folder``, whatever the case of its letters."""
    target = folder / name.replace("\\", "/")
    if target.is_file():
        return target
    wanted = target.name.lower()
    alike = sorted(each for each in folder.iterdir() if each.name.lower() == wanted and each.is_file())
    return alike[0] if alike else target


def _material(name: str, body: Mapping[str, str], folder: Path, images: Images) -> Material:
    def numbers(key: str, default: tuple[float, ...]) -> tuple[float, ...]:
        try:
            found = tuple(float(word) for word in body[key].split()[: len(default)])
        except (KeyError, ValueError):
            return default
        return found if len(found) == len(default) and np.isfinite(found).all() else default

    def texture(key: str, channels: Any) -> Texture | None:
        words = body.get(key, "").replace("\\", "/").split()
        wrap = "clamp" if re.search(r"-clamp\s+on", body.get(key, "")) else "repeat"
        while words and words[0].startswith("-"):  # options, each with numbers or on/off after it
            words.pop(0)
            while len(words) > 1 and re.fullmatch(r"on|off|[-+.\deE]+", words[0]):
                words.pop(0)
        file = " ".join(words)
        pixels = images.pixels(file, file, lambda: _beside(folder, file).read_bytes()) if file else None
        chosen = None if pixels is None else channels(pixels)
        return None if pixels is None or chosen is None else Texture(pixels, chosen, "linear", (wrap, wrap), 0, file)

    def alpha(pixels: torch.Tensor) -> tuple[int]:
        channel = alpha_channel(pixels)
        return (0 if channel is None else channel,)

    mask, color = texture("map_d", alpha), texture("map_kd", colour_channels)
    red, green, blue = numbers("kd", (0.8, 0.8, 0.8)) if color is None else numbers("kd", (1.0, 1.0, 1.0))
    opacity = numbers("d", (1.0,))[0] if "d" in body else 1.0 - numbers("tr", (0.0,))[0]
    shine = texture("map_ke", colour_channels)
    glow = numbers("ke", (0.0, 0.0, 0.0) if shine is None else (1.0, 1.0, 1.0))
    return Material(
        name,
        (red, green, blue),
        numbers("pm", (0.0,))[0],
        numbers("pr", (0.5,))[0],
        opacity,
        (glow[0], glow[1], glow[2]),
        color,
        texture("map_pm", lambda pixels: (0,)),
        texture("map_pr", lambda pixels: (0,)),
        mask,
        shine,
        texture("norm", colour_channels),
        "blend" if mask is not None or opacity < 1 else "opaque",
    )
