"""Readers, triangulation and cleaning, on small files written here."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from shapewright.errors import MeshError, MeshWarning
from shapewright.mesh_cleaning import clean_triangles, consistent_winding, weld
from shapewright.mesh_io import load_mesh, load_mesh_with_counts, save_mesh
from shapewright.states import Mesh
from shapewright.triangulation import triangulate

TETRAHEDRON = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
SIDES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def area(mesh: Mesh) -> float:
    a, b, c = mesh.corners.unbind(1)
    return float(torch.linalg.cross(b - a, c - a).norm(dim=1).sum() / 2)


def obj(vertices: np.ndarray, faces: np.ndarray) -> str:
    rows = ["v " + " ".join(map(repr, row)) for row in vertices.tolist()]
    return "\n".join(rows + ["f " + " ".join(str(i + 1) for i in face) for face in faces.tolist()]) + "\n"


# --- formats ----------------------------------------------------------------------------------------------------------
def test_obj_reads_slashes_negative_indices_continued_lines_and_comments(tmp_path):
    text = (
        "# made by hand\r\nmtllib none.mtl\r\no part\r\nv 0 0 0\r\nv\t1 0 0\r\n  v 1 1 0\r\nvt 0 0\r\nvn 0 0 1\r\n"
        "f 1/1/1 2/1/1 \\\r\n 3/1/1\r\nv 0 1 0 1.0\r\nf -4//1 -2//1 -1//1\r\nl 1 2\r\n"
    )
    mesh = load_mesh(written(tmp_path / "a.obj", text))
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert mesh.vertices.dtype == torch.float64
    assert mesh.faces.dtype == torch.int64


def test_obj_blocks_do_not_change_the_result(tmp_path, monkeypatch):
    path = written(tmp_path / "a.obj", obj(TETRAHEDRON, SIDES).replace("f 1 3", "f -4 \\\n 3"))
    whole = load_mesh(path)
    monkeypatch.setattr("shapewright.mesh_readers.polygons.BLOCK_BYTES", 7)
    pieces = load_mesh(path)
    assert torch.equal(whole.vertices, pieces.vertices)
    assert torch.equal(whole.faces, pieces.faces)


def test_obj_vertex_colours_are_kept(tmp_path):
    mesh = load_mesh(written(tmp_path / "a.obj", "v 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 0 1 0 0 0 0.5\nf 1 2 3\n"))
    assert mesh.attributes["color"].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0.5]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_binary_ply_reads_both_byte_orders_and_mixed_polygons(tmp_path, order):
    name = "little" if order == "<" else "big"
    header = (
        f"ply\nformat binary_{name}_endian 1.0\ncomment x\nelement vertex 5\nproperty double x\nproperty double y\n"
        "property double z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n"
        "element face 2\nproperty uchar flags\nproperty list uchar uint vertex_indices\nend_header\n"
    )
    points = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (2, 0, 0)]
    body = b"".join(struct.pack(order + "3d3B", *point, 255, 0, 51) for point in points)
    body += struct.pack(order + "BB4I", 7, 4, 0, 1, 2, 3) + struct.pack(order + "BB3I", 7, 3, 1, 4, 2)
    mesh = load_mesh(written(tmp_path / "a.ply", header.encode() + body))
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [1, 4, 2]]
    assert area(mesh) == pytest.approx(1.5)
    assert mesh.attributes["color"][0].tolist() == pytest.approx([1, 0, 0.2])


def test_text_ply_with_mixed_polygons_equals_binary(tmp_path):
    header = "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    header += "element face 2\nproperty list uchar int vertex_index\nend_header\n"
    mesh = load_mesh(written(tmp_path / "a.ply", header + "0 0 0\n1 0 0\n1 1 0\n0 1 1\n3 0 1 2\n3 0 2 3\n"))
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_text_stl_and_binary_stl_that_begins_with_solid_agree(tmp_path):
    facets = "".join(
        "facet normal 0 0 0\nouter loop\n"
        + "".join(f"vertex {x} {y} {z}\n" for x, y, z in TETRAHEDRON[face])
        + "endloop\nendfacet\n"
        for face in SIDES
    )
    text = load_mesh(written(tmp_path / "t.stl", f"solid a\n{facets}endsolid a\n"))
    triangles = b"".join(struct.pack("<12fH", 0, 0, 0, *TETRAHEDRON[face].ravel(), 0) for face in SIDES)
    binary = load_mesh(written(tmp_path / "b.stl", b"solid b".ljust(80) + struct.pack("<I", 4) + triangles))
    assert len(text.faces) == 4
    assert len(text.vertices) == 4  # positions are shared again
    assert torch.equal(text.vertices, binary.vertices)
    assert torch.equal(text.faces, binary.faces)


def test_off_reads_comments_counts_on_the_first_line_and_face_colours(tmp_path):
    mesh = load_mesh(
        written(tmp_path / "a.off", "OFF 4 1 0 # counts\n\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3 255 0 0\n")
    )
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def glb(document: dict, binary: bytes) -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I", len(text)) + b"JSON" + text + struct.pack("<I", len(binary)) + b"BIN\0" + binary
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks


def tetrahedron_glb(nodes: list[dict], mode: int = 4, required: list[str] | None = None) -> bytes:
    points, indices = TETRAHEDRON.astype("<f4").tobytes(), SIDES.astype("<u4").tobytes()
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [i for i in range(len(nodes)) if not any(i in n.get("children", ()) for n in nodes)]}],
        "nodes": nodes,
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "mode": mode}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3", "min": [0, 0, 0], "max": [1, 1, 1]},
            {"bufferView": 1, "componentType": 5125, "count": 12, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": len(points)},
            {"buffer": 0, "byteOffset": len(points), "byteLength": len(indices)},
        ],
        "buffers": [{"byteLength": len(points) + len(indices)}],
        "extensionsRequired": required or [],
    }
    return glb(document, points + indices)


def signed_volume(mesh: Mesh) -> float:
    a, b, c = mesh.corners.unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def test_glb_nodes_are_placed_by_all_transforms_above_and_mirrors_keep_outward(tmp_path):
    nodes = [
        {"children": [1, 2], "translation": [10, 0, 0]},
        {"mesh": 0, "scale": [2, 2, 2]},
        {"mesh": 0, "scale": [-1, 1, 1], "translation": [0, 5, 0]},
    ]
    mesh = load_mesh(written(tmp_path / "a.glb", tetrahedron_glb(nodes)))
    assert len(mesh.faces) == 8
    assert mesh.vertices.amin(0).tolist() == [9, 0, 0]
    assert mesh.vertices.amax(0).tolist() == [12, 6, 2]
    assert signed_volume(mesh) == pytest.approx(8 / 6 + 1 / 6)  # the mirrored one counts with its sign


@pytest.mark.parametrize("extension", ["KHR_draco_mesh_compression", "EXT_meshopt_compression"])
def test_compressed_glb_files_are_refused_by_name(tmp_path, extension):
    path = written(tmp_path / "a.glb", tetrahedron_glb([{"mesh": 0}], required=[extension]))
    with pytest.raises(MeshError, match=f"{extension} is not read; export the file without compression"):
        load_mesh(path)


# --- polygons ---------------------------------------------------------------------------------------------------------
def polygon_area(points: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = points[faces[:, 0]], points[faces[:, 1]], points[faces[:, 2]]
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def test_a_concave_pentagon_keeps_its_notch_from_every_first_corner():
    notch = np.array([[0, 0], [2, 0], [2, 2], [1, 1], [0, 2]], float)
    tilted = np.column_stack([notch, 0.5 * notch[:, 0]])
    flat = np.column_stack([notch, np.zeros(5)])
    for start in range(5):
        order = np.roll(np.arange(5), start)
        for corners in (order, order[::-1]):
            faces = triangulate(flat, np.array([5]), corners.copy())
            assert len(faces) == 3
            assert polygon_area(flat, faces) == pytest.approx(3.0)
            assert polygon_area(tilted, triangulate(tilted, np.array([5]), corners.copy())) == pytest.approx(
                3 * np.sqrt(1.25)
            )
            normals = np.cross(flat[faces[:, 1]] - flat[faces[:, 0]], flat[faces[:, 2]] - flat[faces[:, 0]])[:, 2]
            assert (np.sign(normals) == (1 if corners is order else -1)).all()


def test_a_concave_quad_is_cut_along_the_inner_diagonal():
    arrow = np.array([[0, 0, 0], [2, -1, 0], [1, 0, 0], [2, 1, 0]], float)
    for start in range(4):
        corners = np.roll(np.arange(4), start)
        assert polygon_area(arrow, triangulate(arrow, np.array([4]), corners)) == pytest.approx(1.0)


def test_a_corner_on_a_straight_side_makes_no_triangle_without_area():
    points = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [2, 1, 0], [1, 1, 0], [0, 1, 0]], float)
    for start in range(6):
        faces = triangulate(points, np.array([6]), np.roll(np.arange(6), start))
        each = [polygon_area(points, face[None]) for face in faces]
        assert min(each) > 0.1
        assert sum(each) == pytest.approx(2.0)


def test_triangles_of_mixed_polygons_keep_the_order_of_the_faces():
    points = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [2, 0, 0]], float)
    faces = triangulate(points, np.array([3, 4, 3]), np.array([1, 4, 2, 0, 1, 2, 3, 0, 1, 3]))
    assert faces.tolist() == [[1, 4, 2], [0, 1, 2], [0, 2, 3], [0, 1, 3]]


# --- cleaning ---------------------------------------------------------------------------------------------------------
def test_one_warning_carries_all_counts(tmp_path):
    text = obj(
        np.vstack([TETRAHEDRON, [[np.nan, 0, 0], [9, 9, 9], [0.5, 0, 0]]]),
        np.array([*SIDES.tolist(), [0, 1, 4], [1, 2, 0], [0, 1, 1], [0, 6, 1]]),
    )
    path = written(tmp_path / "a.obj", text + "f 1 2\nf 1 2 99\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mesh = load_mesh(path)
    assert [type(entry.message) for entry in caught] == [MeshWarning]
    assert caught[0].filename == __file__  # points at the caller
    assert caught[0].message.source == str(path)
    assert caught[0].message.counts == {
        "faces with fewer than three corners": 1,
        "faces that refer to a vertex that is not there": 1,
        "faces with non-finite vertices": 1,
        "unreferenced vertices": 1,
        "zero-area faces": 2,
        "duplicate faces": 1,
    }
    assert mesh.faces.tolist() == SIDES.tolist()
    assert mesh.oriented


def test_a_clean_file_loads_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_mesh(written(tmp_path / "a.obj", obj(TETRAHEDRON, SIDES)))


def test_without_repair_faces_stay_as_stored(tmp_path):
    faces = np.array([*SIDES.tolist(), [1, 2, 0], [0, 1, 1]])
    path = written(tmp_path / "a.obj", obj(np.vstack([TETRAHEDRON, [[np.nan, 0, 0]]]), faces))
    mesh = load_mesh(path, repair=False)
    assert mesh.faces.tolist() == faces.tolist()
    assert len(mesh.vertices) == 5
    with pytest.raises(MeshError, match="not there"):
        load_mesh(written(path, obj(TETRAHEDRON, np.array([[0, 1, 9]]))), repair=False)


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0, 1e12, 1e300])
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_cleaning_does_not_depend_on_the_scale(scale, shift):
    points = (np.vstack([TETRAHEDRON, TETRAHEDRON[1] * (1 + 1e-12)]) + shift) * scale
    faces = np.array([[0, 2, 1], [0, 4, 3], [0, 3, 2], [1, 2, 3], [0, 1, 4]])
    stay, kept, counts = clean_triangles(points, faces, tolerance=1e-9)
    assert stay.tolist() == [0, 1, 2, 3]
    assert kept.tolist() == [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]
    assert counts == {"near-duplicate vertices": 1, "zero-area faces": 1, "duplicate faces": 0}


def test_a_sliver_within_rounding_goes_unless_it_joins_its_neighbours():
    # A square whose upper side has a vertex in its middle, off the line by less than float32 can tell.
    points = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 1 + 2e-8, 0], [0.5, 2, 0]], float)
    square = [[0, 1, 2], [0, 2, 3]]
    joined = [*square, [3, 2, 4], [4, 2, 5], [3, 4, 5]]  # the sliver 3-2-4 closes the seam to the roof
    assert len(clean_triangles(points, np.array(joined), tolerance=1e-9)[1]) == 5
    loose = [[0, 1, 2], [0, 2, 3], [3, 2, 4], [3, 2, 5]]  # here it hangs on an edge that two others share
    assert clean_triangles(points, np.array(loose), tolerance=1e-9)[2]["zero-area faces"] == 1


def test_welding_crosses_the_borders_of_its_grid_and_ignores_order():
    random = np.random.default_rng(0)
    centres = random.random((200, 3))
    points = np.concatenate([centres + 0.4e-6 * (random.random((200, 3)) - 0.5) for _ in range(5)])
    order = random.permutation(len(points))
    leader, lost = weld(points[order], 1e-6)
    assert lost == 800
    same = leader[np.argsort(order)].reshape(5, 200)
    assert (same == same[0]).all()
    assert len(np.unique(leader)) == 200
    assert (leader <= np.arange(1000)).all()  # the first one speaks for the group


def test_welding_keeps_dense_detail_beside_a_far_outlier():
    axis = np.arange(12) * 1e-6
    dense = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
    dense[:, 0] += 1e-7 * np.arange(len(dense)) / len(dense)  # no gap along x is as wide as the tolerance
    leader, lost = weld(np.vstack([dense, [[1, 1, 1]]]), 1e-9)
    assert lost == 0
    assert len(np.unique(leader)) == len(dense) + 1


def test_stl_corners_that_differ_by_one_unit_in_the_last_place_are_one_vertex(tmp_path):
    random = np.random.default_rng(1)
    corners = (TETRAHEDRON + 0.3).astype(np.float32)[SIDES]
    jittered = np.nextafter(corners, np.where(random.random(corners.shape) < 0.5, -np.inf, np.inf).astype(np.float32))
    triangles = b"".join(struct.pack("<12fH", 0, 0, 0, *corner.ravel(), 0) for corner in jittered)
    path = written(tmp_path / "a.stl", b"jitter".ljust(80) + struct.pack("<I", 4) + triangles)
    mesh, counts = load_mesh_with_counts(path)
    assert len(mesh.vertices) == 4
    assert set(counts) == {"near-duplicate vertices"}
    assert mesh.oriented


def test_winding_means_nothing_in_soups_and_on_one_sided_surfaces():
    assert consistent_winding(SIDES)
    assert consistent_winding(SIDES[:1])
    assert not consistent_winding(np.vstack([SIDES[:3], SIDES[3:, ::-1]]))
    assert not consistent_winding(np.array([[0, 1, 2], [3, 4, 5]]))


# --- errors -----------------------------------------------------------------------------------------------------------
HEADER = (
    b"ply\nformat binary_little_endian 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
)
FACES = b"element face 1\nproperty list uchar int vertex_indices\nend_header\n"
BROKEN = {
    "zero.obj": (b"", "empty"),
    "no_extension": (b"v 0 0 0\n", "no extension"),
    "shape.xyz": (b"0 0 0\n", "extension '.xyz' is unknown"),
    "words.obj": (b"nothing here\n", "no vertices"),
    "points.obj": (b"v 0 0 0\nv 1 0 0\n", "point cloud of 2"),
    "letters.obj": (b"v 0 zero 0\nf 1 1 1\n", "not a number: b'zero'"),
    "index.obj": (b"v 0 0 0\nf a b c\n", "not a vertex index"),
    "short.obj": (b"v 0 0\nf 1 1 1\n", "fewer than three coordinates"),
    "binary.obj": (b"\0\1\2\3" * 9, "binary, not OBJ"),
    "ply_inside.obj": (HEADER + FACES, "the content is PLY"),
    "line.obj": (b"v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\n", "no face has an area"),
    "one_point.obj": (b"v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n", "no face has an area"),
    "all_nan.obj": (b"v nan 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\n", "no usable face is left"),
    "zero_index.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 0 1 2\n", "not there"),
    "ends.ply": (HEADER + FACES + b"\0" * 20, "truncated: announces 3 rows of 'vertex' and holds 1"),
    "no_face.ply": (HEADER + FACES + b"\0" * 36, "truncated: announces 1 rows of 'face'"),
    "huge_list.ply": (
        HEADER + FACES.replace(b"uchar int", b"uint int") + b"\0" * 36 + b"\xff" * 8,
        "announces 1 rows of 'face' and holds 0",
    ),
    "huge_count.ply": (HEADER.replace(b"vertex 3", b"vertex 99999999999") + FACES, "announces 99999999999 rows"),
    "header.ply": (b"ply\nformat ascii 1.0\nelement vertex 3\n", "header does not end"),
    "layout.ply": (b"ply\nformat morse 1.0\nend_header\n", "'morse'"),
    "grammar.ply": (b"ply\nformat ascii 1.0\nwhatever\nend_header\n", "not PLY: 'whatever'"),
    "list.ply": (b"ply\nformat ascii 1.0\nelement face 1\nproperty int a\nend_header\n1\n", "vertex_indices"),
    "few.off": (b"OFF\n3 1 0\n0 0 0\n1 0 0\n", "truncated"),
    "corners.off": (b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n4 0 1 2\n", "fewer corners"),
    "word.off": (b"3 1 0\n", "not OFF"),
    "short.stl": (b"solid x\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\n", "truncated"),
    "tail.stl": (b"x".ljust(80) + struct.pack("<I", 9) + b"\0" * 60, "announces 9 triangles and holds 1"),
    "noise.stl": (b"abc", "neither"),
    "cut.glb": (tetrahedron_glb([{"mesh": 0}])[:300], "damaged or truncated"),
    "cut_later.glb": (tetrahedron_glb([{"mesh": 0}])[:-40], "cannot be read as glb"),
    "noise.gltf": (b"{]", "damaged"),
    "list.gltf": (b"[1, 2]", "damaged"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_unusable_files_end_in_one_line_that_names_the_file(tmp_path, name, capfd):
    content, reason = BROKEN[name]
    path = written(tmp_path / name, content)
    with pytest.raises(MeshError) as caught:
        load_mesh(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")


def test_missing_files_folders_and_permissions_are_mesh_errors(tmp_path, monkeypatch):
    with pytest.raises(MeshError, match="no such file"):
        load_mesh(tmp_path / "absent.obj")
    (tmp_path / "folder.obj").mkdir()
    with pytest.raises(MeshError, match="is a folder"):
        load_mesh(tmp_path / "folder.obj")
    path = written(tmp_path / "a.obj", obj(TETRAHEDRON, SIDES))

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(MeshError, match=r"a\.obj: cannot be read: Permission denied"):
        load_mesh(path)


def test_a_glb_that_refers_past_its_vertices_reads_no_foreign_memory(tmp_path):
    content = bytearray(tetrahedron_glb([{"mesh": 0}, {"mesh": 0, "translation": [3, 0, 0]}]))
    content[-4:] = struct.pack("<I", 1_000_000)
    path = written(tmp_path / "a.glb", bytes(content))
    try:
        mesh, counts = load_mesh_with_counts(path)
    except MeshError:
        return
    assert counts == {"faces that refer to a vertex that is not there": 2}
    assert len(mesh.faces) == 6
    assert int(mesh.faces.max()) < len(mesh.vertices)


@pytest.mark.parametrize("name", ["a.obj", "a.glb"])
def test_reading_needs_neither_trimesh_nor_pillow(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(obj(TETRAHEDRON, SIDES).encode() if name == "a.obj" else tetrahedron_glb([{"mesh": 0}]))
    code = f"import sys, shapewright.mesh_io as io; io.load_mesh({str(path)!r}); "
    code += "print({'trimesh', 'PIL'} & {*sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
    assert result.stderr == ""


def test_loading_a_large_file_stays_near_the_size_of_its_arrays(tmp_path):
    import tracemalloc

    rows, columns = 300, 300
    i, j = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    points = np.stack([i, j, np.sin(i + j)], -1).reshape(-1, 3).astype(float)
    corner = (i[:-1, :-1] * columns + j[:-1, :-1]).reshape(-1)
    faces = np.stack([corner, corner + columns, corner + columns + 1], -1)
    path = tmp_path / "a.ply"
    save_mesh(Mesh(torch.from_numpy(points), torch.from_numpy(faces)), path)
    tracemalloc.start()
    mesh = load_mesh_with_counts(path)[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    arrays = mesh.vertices.nbytes + mesh.faces.nbytes
    assert len(mesh.faces) == len(faces)
    assert peak < 16 * arrays
