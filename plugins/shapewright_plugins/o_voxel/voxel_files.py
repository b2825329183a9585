"""``.npz`` and ``.ply`` files of voxels, as the published toolkit writes and reads them.

npz: ``coord`` uint16 ``(N, 3)`` and one array an attribute. ply: a vertex a voxel, with the voxel's indices as float
x, y, z and one byte property ``NAME_CHANNEL`` a channel. Neither has a place for resolution or frame.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .voxel_table import Bytes, VoxelFileError, VoxelTable

_PLY_TYPES = {"char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2"}
_PLY_TYPES |= {"uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4"}
_PLY_TYPES |= {"double": "f8", "float64": "f8"}
_LARGEST_PLY_HEADER = 1 << 20


def npz_bytes(table: VoxelTable) -> bytes:
    """The .npz file of ``table``.

    Raises:
        VoxelFileError: a coordinate does not fit uint16, or an attribute is called ``coord``.
    """
    if len(table.coords) and not 0 <= table.coords.min() <= table.coords.max() < 1 << 16:
        raise VoxelFileError("coordinates in .npz must lie between 0 and 65535")
    if "coord" in table.attributes:
        raise VoxelFileError("an attribute in .npz cannot be called coord")
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {"coord": table.coords.astype(np.uint16), **table.attributes}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def read_npz(data: bytes) -> VoxelTable:
    """The voxels of an .npz file. Raises :class:`VoxelFileError`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            arrays = {info.filename.removesuffix(".npy"): _array(archive, info) for info in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise VoxelFileError(f"not a readable .npz file ({error})") from None
    except Exception as error:  # zlib.error and what else a damaged archive may raise
        raise VoxelFileError(f"the archive is damaged ({type(error).__name__}: {error})") from None
    if "coord" not in arrays:
        raise VoxelFileError(f"the file has no array coord, only {', '.join(sorted(arrays)) or 'none'}")
    coords = arrays.pop("coord")
    if coords.ndim != 2 or coords.shape[1] != 3 or not np.issubdtype(coords.dtype, np.integer):
        raise VoxelFileError(f"coord must be whole numbers (N, 3), not {coords.dtype} {coords.shape}")
    wide = coords.astype(np.int64)
    if len(wide) and not 0 <= wide.min() <= wide.max() < 1 << 20:
        raise VoxelFileError("coordinates must lie between 0 and 2^20 - 1")
    attributes = {name: values[:, None] if values.ndim == 1 else values for name, values in arrays.items()}
    return VoxelTable(wide.astype(np.int32), attributes)


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    """One array, whose announced size is first compared with what the archive holds."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(file)
        count = 1
        for size in shape:
            count *= int(size)
        if dtype.hasobject or count * dtype.itemsize > info.file_size:
            raise ValueError(f"{info.filename} announces {shape} {dtype} and has {info.file_size} bytes")
    with archive.open(info) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def ply_bytes(table: VoxelTable) -> bytes:
    """The .ply file of ``table``, binary little-endian."""
    fields = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
    for name, values in table.attributes.items():
        if not re.fullmatch(r"[!-~]+", name):
            raise VoxelFileError(f"an attribute in .ply cannot be called {name!r}")
        fields += [(f"{name}_{channel}", "u1") for channel in range(values.shape[1])]
    if len({name for name, _ in fields}) < len(fields):
        raise VoxelFileError("two properties of the .ply file would have one name")
    rows = np.empty(len(table.coords), np.dtype(fields))
    for axis, name in enumerate("xyz"):
        rows[name] = table.coords[:, axis]
    for name, values in table.attributes.items():
        for channel in range(values.shape[1]):
            rows[f"{name}_{channel}"] = values[:, channel]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    lines += [f"property {'float' if kind == '<f4' else 'uchar'} {name}" for name, kind in fields]
    return "\n".join([*lines, "end_header", ""]).encode() + rows.tobytes()


def read_ply(data: bytes) -> VoxelTable:
    """The voxels of a binary .ply file: x, y, z rounded, byte properties grouped by the name before the last ``_``."""
    end = data.find(b"end_header\n", 0, _LARGEST_PLY_HEADER)
    if not data.startswith(b"ply\n") or end < 0:
        raise VoxelFileError("not a .ply file with a header")
    order, count, fields, element = "", -1, [], ""
    for line in data[:end].decode("ascii", "replace").splitlines()[1:]:
        words = line.split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "format":
            order = {"binary_little_endian": "<", "binary_big_endian": ">"}.get(words[1] if len(words) > 1 else "", "")
        elif words[0] == "element" and len(words) == 3 and words[2].isdigit():
            element = words[1]
            if count >= 0 or element != "vertex":
                if count >= 0:
                    break  # what follows the voxels is not ours
                raise VoxelFileError(f"the first element must be vertex, not {element}")
            count = int(words[2])
        elif words[0] == "property" and len(words) == 3 and words[1] in _PLY_TYPES and element == "vertex":
            fields.append((words[2], _PLY_TYPES[words[1]]))
        else:
            raise VoxelFileError(f"the header line {line[:60]!r} is not one of a voxel file")
    names = [name for name, _ in fields]
    if not order or count < 0 or names[:3] != ["x", "y", "z"] or len(set(names)) < len(names):
        raise VoxelFileError("a voxel .ply is binary, and its vertices begin with x, y, z, each property once")
    kind = np.dtype([(name, order + code) for name, code in fields])
    start = end + len(b"end_header\n")
    if count * kind.itemsize > len(data) - start:
        raise VoxelFileError(f"{count} voxels need {count * kind.itemsize} bytes, the file has {len(data) - start}")
    rows = np.frombuffer(data, kind, count, start)
    places = np.stack([rows[axis].astype(np.float64) for axis in "xyz"], axis=1)
    if len(places) and not (np.isfinite(places).all() and places.min() > -0.5 and places.max() < (1 << 20) - 0.5):
        raise VoxelFileError("coordinates must lie between 0 and 2^20 - 1")
    groups: dict[str, list[Bytes]] = {}
    for name, code in fields[3:]:
        if code != "u1":
            raise VoxelFileError(f"property {name} is not of bytes")
        groups.setdefault(name.rpartition("_")[0] or name, []).append(rows[name])
    attributes = {name: np.stack(columns, axis=1) for name, columns in groups.items()}
    return VoxelTable(np.round(places).astype(np.int32), attributes)


def load_voxel_file(path: str | os.PathLike[str]) -> VoxelTable:
    """The voxels of a ``.npz`` or ``.ply`` file by name; errors name it."""
    try:
        data = Path(path).read_bytes()
        return read_npz(data) if Path(path).suffix.lower() == ".npz" else read_ply(data)
    except VoxelFileError as error:
        raise VoxelFileError(f"{path}: {error}") from None
    except OSError as error:
        raise VoxelFileError(f"{path}: cannot be read: {error.strerror or error}") from None
