"""Voxel files: round trips through every codec and layout, parts, and damage that ends in one typed error."""

from __future__ import annotations

import io
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapewright_plugins.o_voxel.voxel_files import npz_bytes, ply_bytes, read_npz, read_ply
from shapewright_plugins.o_voxel.voxel_table import VoxelFileError, VoxelTable
from shapewright_plugins.o_voxel.vxz import read_vxz, vxz_bytes
from shapewright_plugins.o_voxel.vxz_codecs import DEFAULT_LEVELS, LEVELS

pytest.importorskip("zstandard")
LOW = {codec: levels[0] for codec, levels in LEVELS.items()}  # the high ones make tables of hundreds of megabytes


def table(count: int = 300, side: int = 40, seed: int = 0) -> VoxelTable:
    rng = np.random.default_rng(seed)
    coords = np.unique(rng.integers(0, side, (count, 3)), axis=0).astype(np.int32)
    values = {"vertices": 3, "intersected": 1, "base_color": 3}
    made = {name: rng.integers(0, 256, (len(coords), width), dtype=np.uint8) for name, width in values.items()}
    return VoxelTable(coords, made, {"resolution": side})


def ordered(found: VoxelTable) -> list[np.ndarray]:
    order = np.lexsort(found.coords.T[::-1])
    return [found.coords[order], *(found.attributes[name][order] for name in sorted(found.attributes))]


def same(first: VoxelTable, second: VoxelTable) -> bool:
    pairs = zip(ordered(first), ordered(second), strict=True)
    return sorted(first.attributes) == sorted(second.attributes) and all(np.array_equal(a, b) for a, b in pairs)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 120), st.integers(1, 70), st.sampled_from([8, 64, 256, 1024]),
    st.sampled_from(["none", "parent", "neighbor"]), st.sampled_from(list(DEFAULT_LEVELS)),
    st.sampled_from(["as_is", "none", "all"]), st.integers(0, 9),
)  # fmt: skip
def test_what_is_written_is_read(
    count: int, side: int, chunk: int, predictor: str, codec: str, interleave: str, seed: int
) -> None:
    voxels = table(count, side, seed)
    data = vxz_bytes(
        voxels,
        chunk_size=chunk,
        filter=predictor,
        compression=codec,
        compression_level=LOW[codec],
        attr_interleave=interleave,
    )
    found = read_vxz(io.BytesIO(data))
    assert same(found, voxels)
    assert found.metadata == {"resolution": side}
    assert same(read_npz(npz_bytes(voxels)), voxels)
    assert same(read_ply(ply_bytes(voxels)), voxels)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(-5, 45)] * 3), st.tuples(*[st.integers(0, 30)] * 3))
def test_a_part_is_what_lies_in_the_box(lower: tuple[int, ...], size: tuple[int, ...]) -> None:
    voxels = table()
    upper = [low + long for low, long in zip(lower, size, strict=True)]
    found = read_vxz(
        io.BytesIO(vxz_bytes(voxels, chunk_size=8, compression="none")), box=(lower, upper), attributes=["base_color"]
    )
    inside = ((voxels.coords >= lower) & (voxels.coords < upper)).all(axis=1)
    wanted = VoxelTable(voxels.coords[inside], {"base_color": voxels.attributes["base_color"][inside]})
    assert same(found, wanted)


class Counting(io.BytesIO):
    read_bytes = 0

    def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
        data = super().read(size)
        self.read_bytes += len(data)
        return data


def test_a_part_reads_only_its_chunks() -> None:
    data = vxz_bytes(table(4000), chunk_size=8, compression="none")
    whole, part = Counting(data), Counting(data)
    read_vxz(whole)
    read_vxz(part, box=((0, 0, 0), (8, 8, 8)))
    header = int.from_bytes(data[4:8], "big")
    assert part.read_bytes - header < 0.1 * (whole.read_bytes - header)


FILES = [
    vxz_bytes(table(), chunk_size=16, filter=predictor, compression=codec, compression_level=LOW[codec])
    for predictor, codec in (("parent", "zstd"), ("neighbor", "deflate"), ("none", "lzma"), ("parent", "none"))
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FILES), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4), st.floats(0, 1))
def test_damage_ends_in_a_typed_error_or_in_voxels(data: bytes, changes: list[tuple[float, int]], keep: float) -> None:
    broken = bytearray(data)
    for place, value in changes:
        broken[int(place * (len(broken) - 1))] = value
    if not changes:
        del broken[int(keep * len(broken)) :]
    try:
        found = read_vxz(io.BytesIO(bytes(broken)))
    except VoxelFileError:
        return
    assert len(found.coords) == len(found.attributes["vertices"]) <= 300


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"VXZ\0", b"VXZ\0\0\0\0\x20", b"PK\x03\x04", b"ply\n"]))
def test_noise_is_refused(noise: bytes, start: bytes) -> None:
    for read in (lambda data: read_vxz(io.BytesIO(data)), read_npz, read_ply):
        with pytest.raises(VoxelFileError):
            read(start + noise)


def rewritten(data: bytes, **changes: object) -> bytes:
    end = int.from_bytes(data[4:8], "big")
    text = json.dumps(json.loads(data[8:end]) | changes).encode()
    return data[:4] + (8 + len(text)).to_bytes(4, "big") + text + data[end:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_voxel": 10**15}, "num_voxel"),
        ({"num_voxel": 10**8}, "announces"),
        ({"num_voxel": -1}, "num_voxel"),
        ({"chunk_size": 1 << 40}, "chunk_size"),
        ({"attr": [["vertices", 10**9]]}, "channels"),
        ({"attr": [["svo", 1]]}, "collide"),
        ({"compression": "rar"}, "compression"),
        ({"chunks": [{"idx": [0, 0, 0], "ptr": [0, 10**12]}]}, "place"),
        ({"chunks": 3}, "header"),
        ({"attr": [[1]]}, "header"),
        ({"chunks": [{"idx": [0, 0], "ptr": [0, 1]}]}, "header"),
        ({"chunks": [{"idx": [0, 0, 0], "ptr": [0, 1, 2]}]}, "header"),
        ({"chunks": [{"idx": [0, 0, 0], "ptr": [0, 1], "svo": [0, 1, 1]}]}, "header"),
        ({"shapewright": {"schema": 99}}, "newer"),
    ],
)
def test_absurd_headers_are_refused_without_making_room(changes: dict[str, object], message: str) -> None:
    data = rewritten(FILES[0], **changes)
    tracemalloc.start()
    with pytest.raises(VoxelFileError, match=message):
        read_vxz(io.BytesIO(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_newer_version_is_named() -> None:
    with pytest.raises(VoxelFileError, match="version 1"):
        read_vxz(io.BytesIO(b"VXZ\x01" + FILES[0][4:]))
