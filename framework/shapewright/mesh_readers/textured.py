"""Polygons with what is painted on them, as glTF, OBJ and their image files store it."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import torch

from ..errors import MeshError
from ..materials import Material, Texture
from .polygons import Array, Polygons

LARGEST_SIDE = 32768
"""Pixels along a side of an image beyond which it is refused."""
LARGEST_IMAGE = 1 << 29
"""Pixels of an image beyond which it is refused: 16k textures have half of that."""


@dataclass(frozen=True, slots=True)
class TexturedPolygons:
    """Polygons, and for each of their corners and faces how they look."""

    polygons: Polygons
    materials: tuple[Material, ...] = ()
    polygon_materials: Array | None = None
    """``(P,)`` rows of ``materials``, -1 for none."""
    uvs: tuple[Array, ...] = ()
    """``(C, 2)`` each, ``v`` upward."""
    colors: Array | None = None
    """``(C, 4)`` in [0, 1]."""
    problems: Counter[str] = field(default_factory=Counter)


class Images:
    """Images by key, each opened once; one that cannot be opened is a problem and not an end."""

    def __init__(self, problems: Counter[str]) -> None:
        self._problems = problems
        self._opened: dict[object, torch.Tensor | None] = {}

    def pixels(self, key: object, name: str, read: Callable[[], bytes]) -> torch.Tensor | None:
        """``(H, W, C)`` uint8 with 1 to 4 channels, or ``None``."""
        if key not in self._opened:
            try:
                self._opened[key] = decode_image(read())
            except (MeshError, OSError) as error:
                reason = getattr(error, "strerror", None) or " ".join(str(error).split())
                self._problems[f"texture {name} ({reason[:80]})"] += 1
                self._opened[key] = None
        return self._opened[key]


def decode_image(data: bytes) -> torch.Tensor:
    """Bytes of an image file as ``(H, W, C)`` uint8: grey, grey with alpha, RGB or RGBA.

    Raises:
        MeshError: not an image that is read here, damaged, or too large.
    """
    try:
        from PIL import Image, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError
    except ImportError:
        raise MeshError("textures need the package 'pillow': pip install pillow") from None
    try:
        # By the class of the format: the general way in refuses images of 16k.
        if data.startswith(b"\x89PNG"):
            image: Any = PngImagePlugin.PngImageFile(io.BytesIO(data))
        elif data.startswith(b"\xff\xd8"):
            image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        else:
            image = Image.open(io.BytesIO(data))
        if max(image.size) > LARGEST_SIDE or image.size[0] * image.size[1] > LARGEST_IMAGE:
            raise MeshError(f"{image.size[0]} x {image.size[1]} pixels are too many")
        if image.mode.startswith(("I", "F")):  # 16 bits a channel: the upper eight
            values = np.asarray(image).astype(np.float64)
            top = 65535.0 if values.max(initial=0) > 255 else 255.0
            pixels = np.clip(values * (255.0 / top), 0, 255).astype(np.uint8)
        else:
            transparent = "transparency" in image.info
            plain = {"L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "1": "L"}.get(image.mode, "RGB")
            if image.mode in ("P", "PA", "La", "RGBa") or transparent:
                plain = "RGBA" if transparent or image.mode != "P" else "RGB"
            pixels = np.array(image if image.mode == plain else image.convert(plain))
    except (UnidentifiedImageError, SyntaxError, ValueError, OSError, EOFError, IndexError, OverflowError) as error:
        raise MeshError(f"not a readable image: {' '.join(str(error).split())[:60]}") from None
    return torch.from_numpy(np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[:, :, None]))


def colour_channels(pixels: torch.Tensor) -> tuple[int, int, int]:
    """Red, green and blue of an image; grey three times."""
    return (0, 1, 2) if pixels.shape[2] >= 3 else (0, 0, 0)


def alpha_channel(pixels: torch.Tensor) -> int | None:
    """The channel of alpha, if there is one."""
    return pixels.shape[2] - 1 if pixels.shape[2] in (2, 4) else None


# --- glTF -------------------------------------------------------------------------------------------------------------
_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_WRAPS = {10497: "repeat", 33071: "clamp", 33648: "mirror"}
_NEAREST = (9728, 9984, 9986)
_DEEPEST = 512


class _Gltf:
    """A glTF document with its buffers."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        data = path.read_bytes()
        self.binary = b""
        if data[:4] == b"glTF":
            length = int.from_bytes(data[12:16], "little")
            text, rest = data[20 : 20 + length], data[20 + length :]
            if len(rest) >= 8:
                self.binary = rest[8 : 8 + int.from_bytes(rest[:4], "little")]
        else:
            text = data
        self.document: dict[str, Any] = json.loads(text)
        self._buffers: dict[int, bytes] = {}

    def items(self, name: str) -> list[Any]:
        found: list[Any] = self.document.get(name, [])
        return found

    def resource(self, uri: str) -> bytes:
        """Bytes of a data URI or of a file beside the document."""
        if uri.startswith("data:"):
            return base64.b64decode(uri.partition(",")[2])
        target = (self.folder / unquote(uri)).resolve()
        if not target.is_relative_to(self.folder.resolve()):
            raise MeshError("a file outside the folder of the mesh is not read")
        return target.read_bytes()

    def buffer(self, index: int) -> bytes:
        if index not in self._buffers:
            uri = self.items("buffers")[index].get("uri")
            self._buffers[index] = self.binary if uri is None else self.resource(uri)
        return self._buffers[index]

    def view(self, index: int) -> bytes:
        view = self.items("bufferViews")[index]
        start, length = view.get("byteOffset", 0), view["byteLength"]
        data = self.buffer(view["buffer"])
        if start < 0 or length < 0 or start + length > len(data):
            raise MeshError("a buffer ends before what is said to lie in it")
        return data[start : start + length]

    def accessor(self, index: int) -> Array:
        """``(N, width)``, normalised integers as float64 in [-1, 1], other integers as int64."""
        accessor = self.items("accessors")[index]
        kind, width, count = np.dtype(_TYPES[accessor["componentType"]]), _WIDTHS[accessor["type"]], accessor["count"]
        if "bufferView" in accessor:
            stride = self.items("bufferViews")[accessor["bufferView"]].get("byteStride", 0) or kind.itemsize * width
            data, start = self.view(accessor["bufferView"]), accessor.get("byteOffset", 0)
            if start < 0 or count < 0 or (count and start + stride * (count - 1) + kind.itemsize * width > len(data)):
                raise MeshError("an accessor reaches past the end of its buffer")
            raw = np.ndarray((count, width), kind, data, start, (stride, kind.itemsize))
        elif count * width > 1 << 28:
            raise MeshError("an accessor without data announces too many elements")
        else:
            raw = np.zeros((count, width), kind)
        if "sparse" in accessor:
            raise MeshError("sparse accessors are not read; export the file without them")
        if kind.kind == "f":
            return raw.astype(np.float64)
        if accessor.get("normalized"):
            return np.maximum(raw / np.iinfo(kind).max, -1.0)
        return raw.astype(np.int64)


def read_textured_gltf(path: Path) -> TexturedPolygons:
    """Triangles of all nodes of the scene, moved by the transforms above them; mirrors turn the winding round."""
    from .gltf import _refuse_unreadable_features

    _refuse_unreadable_features(path)
    try:
        return _read_gltf(_Gltf(path))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError, OSError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise MeshError(f"cannot be read as {path.suffix[1:].lower()}: {reason}") from None


def _read_gltf(gltf: _Gltf) -> TexturedPolygons:
    problems: Counter[str] = Counter()
    transforms: list[tuple[tuple[float, ...], int]] = []
    images = Images(problems)
    materials = [_gltf_material(gltf, body, images, transforms) for body in gltf.items("materials")]
    vertices: list[Array] = []
    faces: list[Array] = []
    rows: list[Array] = []
    uvs: list[list[Array]] = [[] for _ in range(len(transforms))]
    colors: list[Array] = []
    coloured, start = False, 0
    for mesh, matrix in _placed_meshes(gltf):
        for part in gltf.items("meshes")[mesh]["primitives"]:
            if part.get("mode", 4) not in (4, 5) or "POSITION" not in part["attributes"]:
                continue
            local = gltf.accessor(part["attributes"]["POSITION"])
            index = gltf.accessor(part["indices"])[:, 0] if "indices" in part else np.arange(len(local))
            triangles = _triangles(index, part.get("mode", 4))
            if not len(triangles):
                continue
            if np.linalg.det(matrix[:3, :3]) < 0:
                triangles = triangles[:, ::-1]
            valid = (triangles >= 0) & (triangles < len(local))
            own = np.zeros(len(local), bool)  # parts may share one table of vertices
            own[triangles[valid]] = True
            faces.append(np.where(valid, (np.cumsum(own) - 1 + start)[np.where(valid, triangles, 0)], -1))
            with np.errstate(invalid="ignore", over="ignore"):
                vertices.append(local[own] @ matrix[:3, :3].T + matrix[:3, 3])
            start += int(own.sum())
            rows.append(np.full(len(triangles), part.get("material", -1), np.int64))
            corners = np.where(valid, triangles, 0).reshape(-1)
            for number, (transform, texcoord) in enumerate(transforms):
                name = f"TEXCOORD_{texcoord}"
                place = np.zeros((len(local), 2))
                if name in part["attributes"]:
                    place = _transformed(gltf.accessor(part["attributes"][name]), transform)
                uvs[number].append(place[corners] if len(place) == len(local) else np.zeros((len(corners), 2)))
            color = np.ones((len(local), 4))
            if "COLOR_0" in part["attributes"]:
                stored = gltf.accessor(part["attributes"]["COLOR_0"])
                if len(stored) == len(local):
                    color[:, : stored.shape[1]], coloured = stored, True
            colors.append(color[corners])
    if not faces:
        return TexturedPolygons(Polygons(np.zeros((0, 3)), np.zeros(0, np.int64), np.zeros(0, np.int64)))
    triangles = np.concatenate(faces)
    polygons = Polygons(
        np.concatenate(vertices), np.full(len(triangles), 3, np.int64), np.ascontiguousarray(triangles).reshape(-1)
    )
    return TexturedPolygons(
        polygons,
        tuple(materials),
        np.where(np.concatenate(rows) < len(materials), np.concatenate(rows), -1),
        tuple(np.concatenate(each) for each in uvs),
        np.concatenate(colors) if coloured else None,
        problems,
    )


def _triangles(index: Array, mode: int) -> Array:
    if mode == 4:
        return np.asarray(index[: len(index) // 3 * 3].reshape(-1, 3))
    strip = np.stack([index[:-2], index[1:-1], index[2:]], axis=1)
    strip[1::2] = strip[1::2, [1, 0, 2]]
    return strip


def _placed_meshes(gltf: _Gltf) -> list[tuple[int, Array]]:
    nodes = gltf.items("nodes")
    scenes = gltf.items("scenes")
    children = {child for node in nodes for child in node.get("children", [])}
    roots = [number for number in range(len(nodes)) if number not in children]
    if scenes:
        roots = scenes[gltf.document.get("scene", 0)].get("nodes", [])
    placed: list[tuple[int, Array]] = []
    waiting = [(root, np.eye(4), 0) for root in reversed(roots)]
    while waiting:
        number, above, depth = waiting.pop()
        if depth > _DEEPEST:
            raise MeshError("the nodes form a circle")
        matrix = above @ _local_matrix(nodes[number])
        if "mesh" in nodes[number]:
            placed.append((nodes[number]["mesh"], matrix))
        waiting += [(child, matrix, depth + 1) for child in reversed(nodes[number].get("children", []))]
    return placed


def _local_matrix(node: Mapping[str, Any]) -> Array:
    if "matrix" in node:
        return np.asarray(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = node.get("rotation", (0.0, 0.0, 0.0, 1.0))
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = turn * np.asarray(node.get("scale", (1.0, 1.0, 1.0)), np.float64)
    matrix[:3, 3] = node.get("translation", (0.0, 0.0, 0.0))
    return matrix


def _transformed(stored: Array, transform: tuple[float, ...]) -> Array:
    """``KHR_texture_transform`` on stored coordinates, then ``v`` upward."""
    dx, dy, angle, sx, sy = transform
    u, v = stored[:, 0] * sx, stored[:, 1] * sy
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([cosine * u + sine * v + dx, 1.0 - (-sine * u + cosine * v + dy)], axis=1)


def _gltf_texture(
    gltf: _Gltf, reference: Any, images: Images, transforms: list[tuple[tuple[float, ...], int]], channels: Any
) -> Texture | None:
    if not reference:
        return None
    body = gltf.items("textures")[reference["index"]]
    webp = body.get("extensions", {}).get("EXT_texture_webp", {})
    source = webp.get("source", body.get("source"))
    if source is None:
        return None
    image = gltf.items("images")[source]
    name = image.get("name") or str(image.get("uri", ""))[:60] or f"image {source}"

    def read() -> bytes:
        return gltf.view(image["bufferView"]) if "bufferView" in image else gltf.resource(image["uri"])

    pixels = images.pixels(source, name, read)
    chosen = None if pixels is None else channels(pixels)
    if pixels is None or chosen is None:
        return None
    sampler = gltf.items("samplers")[body["sampler"]] if "sampler" in body else {}
    change = reference.get("extensions", {}).get("KHR_texture_transform", {})
    offset, scale = change.get("offset", (0.0, 0.0)), change.get("scale", (1.0, 1.0))
    texcoord = change.get("texCoord", reference.get("texCoord", 0))
    key = ((*map(float, offset), float(change.get("rotation", 0.0)), *map(float, scale)), texcoord)
    if key not in transforms:
        transforms.append(key)
    return Texture(
        pixels,
        chosen,
        "nearest" if sampler.get("magFilter") in _NEAREST else "linear",
        (_WRAPS.get(sampler.get("wrapS", 10497), "repeat"), _WRAPS.get(sampler.get("wrapT", 10497), "repeat")),
        transforms.index(key),
        name,
    )


def _gltf_material(
    gltf: _Gltf, body: Mapping[str, Any], images: Images, transforms: list[tuple[tuple[float, ...], int]]
) -> Material:
    def texture(reference: Any, channels: Any) -> Texture | None:
        return _gltf_texture(gltf, reference, images, transforms, channels)

    def one(channel: int) -> Any:
        return lambda pixels: (channel if pixels.shape[2] >= 3 else 0,)

    def alpha(pixels: torch.Tensor) -> tuple[int] | None:
        channel = alpha_channel(pixels)
        return None if channel is None else (channel,)

    pbr = body.get("pbrMetallicRoughness", {})
    factor = [float(value) for value in pbr.get("baseColorFactor", (1.0, 1.0, 1.0, 1.0))]
    mode = str(body.get("alphaMode", "OPAQUE")).lower()
    rough = pbr.get("metallicRoughnessTexture")
    emissive = [float(value) for value in body.get("emissiveFactor", (0.0, 0.0, 0.0))]
    return Material(
        str(body.get("name", "")),
        (factor[0], factor[1], factor[2]),
        float(pbr.get("metallicFactor", 1.0)),
        float(pbr.get("roughnessFactor", 1.0)),
        factor[3],
        (emissive[0], emissive[1], emissive[2]),
        texture(pbr.get("baseColorTexture"), colour_channels),
        texture(rough, one(2)),
        texture(rough, one(1)),
        texture(pbr.get("baseColorTexture"), alpha) if mode != "opaque" else None,
        texture(body.get("emissiveTexture"), colour_channels),
        texture(body.get("normalTexture"), colour_channels),
        mode if mode in ("opaque", "mask", "blend") else "opaque",
        float(body.get("alphaCutoff", 0.5)),
        bool(body.get("doubleSided", False)),
    )


# --- OBJ --------------------------------------------------------------------------------------------------------------
def read_textured_obj(path: Path) -> TexturedPolygons:
    """Polygons with texture coordinates and the materials of the ``.mtl`` files beside the ``.obj`` file."""
    from .obj import read_obj
    from .polygons import text_blocks

    polygons = read_obj(path)
    problems: Counter[str] = Counter()
    places: list[tuple[float, float]] = []
    corner_places: list[int] = []
    polygon_names: list[str] = []
    libraries: list[str] = []
    name = ""
    with path.open("rb") as file:
        for block in text_blocks(file):
            for line in block.decode("utf-8", "replace").splitlines():
                words = line.split()
                if not words:
                    continue
                if words[0] == "vt":
                    places.append((_number(words, 1), _number(words, 2)))
                elif words[0] == "f":
                    polygon_names.append(name)
                    for corner in words[1:]:
                        parts = corner.split("/")
                        given = parts[1] if len(parts) > 1 else ""
                        index = int(given) if re.fullmatch(r"-?\d{1,12}", given) else 0
                        corner_places.append(index - 1 if index > 0 else len(places) + index if index else -1)
                elif words[0] == "usemtl":
                    name = line.strip()[6:].strip()
                elif words[0] == "mtllib":
                    libraries.append(line.strip()[6:].strip())
    table = np.array([*places, (0.0, 0.0)]).reshape(-1, 2)  # the last row stands for corners without a place
    chosen = np.asarray(corner_places, np.int64)
    chosen = np.where((chosen >= 0) & (chosen < len(places)), chosen, len(places))
    materials: dict[str, Material] = {}
    for library in dict.fromkeys(libraries):
        materials |= _read_mtl(path.parent, library, problems)
    order = {key: row for row, key in enumerate(materials)}
    rows = np.array([order.get(each, -1) for each in polygon_names], np.int64)
    return TexturedPolygons(
        polygons,
        tuple(materials.values()),
        rows if len(rows) == len(polygons.sizes) else None,
        (table[chosen],) if len(chosen) == len(polygons.corners) else (),
        problems=problems,
    )


def _number(words: list[str], place: int) -> float:
    try:
        return float(words[place])
    except (IndexError, ValueError):
        return 0.0


def _read_mtl(folder: Path, library: str, problems: Counter[str]) -> dict[str, Material]:
    """Materials by name. ``Pm``, ``Pr`` and their maps are used; without them a surface is neither metal nor glossy."""
    try:
        text = (folder / library).read_text("utf-8", "replace")
    except (OSError, ValueError) as error:
        problems[f"material library {library} ({getattr(error, 'strerror', None) or error})"] += 1
        return {}
    images = Images(problems)
    bodies: dict[str, dict[str, str]] = {}
    current: dict[str, str] | None = None
    for line in text.splitlines():
        key, _, rest = line.strip().partition(" ")
        if key == "newmtl":
            current = bodies.setdefault(rest.strip(), {})
        elif current is not None and rest:
            current[key.lower()] = rest.strip()
    return {name: _mtl_material(name, body, folder, images) for name, body in bodies.items()}


def _mtl_material(name: str, body: Mapping[str, str], folder: Path, images: Images) -> Material:
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
        pixels = images.pixels(file, file, (folder / file).read_bytes) if file else None
        chosen = None if pixels is None else channels(pixels)
        return None if pixels is None or chosen is None else Texture(pixels, chosen, "linear", (wrap, wrap), 0, file)

    def alpha(pixels: torch.Tensor) -> tuple[int]:
        channel = alpha_channel(pixels)
        return (0 if channel is None else channel,)

    mask, color = texture("map_d", alpha), texture("map_kd", colour_channels)
    red, green, blue = numbers("kd", (0.8, 0.8, 0.8)) if color is None else numbers("kd", (1.0, 1.0, 1.0))
    opacity = numbers("d", (1.0,))[0] if "d" in body else 1.0 - numbers("tr", (0.0,))[0]
    glow = numbers("ke", (0.0, 0.0, 0.0))
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
        texture("map_ke", colour_channels),
        texture("norm", colour_channels),
        "blend" if mask is not None or opacity < 1 else "opaque",
    )
