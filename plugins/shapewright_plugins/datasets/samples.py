"""What all data sets share: splits, unknown ids, and a sample made from a file."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from shapewright.errors import ConfigError, MeshWarning
from shapewright.interfaces import Sample
from shapewright.mesh_io import content_hash, load_mesh_with_counts
from shapewright.states import Mesh
from shapewright.textured_meshes import load_textured_mesh


def split_of(id: str) -> str:
    """``train`` (80 %), ``val`` (10 %) or ``test`` (10 %) by the hash of the id, so that it never changes.

    >>> split_of("000"), split_of("061")
    ('train', 'test')
    """
    share = int.from_bytes(hashlib.sha256(id.encode()).digest()[:8], "big") / 2**64
    return "train" if share < 0.8 else "val" if share < 0.9 else "test"


def unknown_sample(dataset: str, id: str, known: Sequence[str]) -> ConfigError:
    """The error for an id that a data set does not have, with the nearest ones."""
    close = get_close_matches(id, known, n=3)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else f"; it has {len(known)}"
    return ConfigError(f"dataset/{dataset} has no sample {id!r}{hint}")


def topology_tags(mesh: Mesh) -> set[str]:
    """``closed`` or ``open``, and ``non-manifold``, as counted after merging vertices by position."""
    from shapewright_kernels.topology import edge_topology, merge_vertices

    _, group = merge_vertices(mesh.vertices.numpy(force=True))
    edges = edge_topology(group[mesh.faces.numpy(force=True)])
    return {"open" if edges.boundary.any() else "closed"} | ({"non-manifold"} if edges.non_manifold.any() else set())


def file_sample(
    id: str,
    path: Path,
    *,
    tags: Iterable[str] = (),
    license: str = "",
    split: str = "",
    notes: Iterable[str] = (),
    materials: bool = False,
) -> Sample:
    """Load ``path`` as the sample ``id``; repairs go into its notes and are warned about.

    With ``materials`` the mesh has what the file says about its look; its geometry is the same either way. Where
    ``tags`` do not say whether the shape is open or closed, its topology does.
    """
    mesh, counts = _textured(path) if materials else load_mesh_with_counts(path)
    known = set(tags)
    if not known & {"open", "closed"}:
        known |= topology_tags(mesh)
    if counts:
        warnings.warn(MeshWarning(str(path), counts), stacklevel=2)
    repairs = [f"dropped {count} {what}" for what, count in counts.items()]
    return Sample(id, mesh, frozenset(known), license, split or split_of(id), content_hash(mesh), (*notes, *repairs))


def _textured(path: Path) -> tuple[Mesh, dict[str, int]]:
    """The mesh with its materials, and the counts that reading it warns about."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mesh = load_textured_mesh(path)
    counts: dict[str, int] = {}
    for entry in caught:
        if isinstance(entry.message, MeshWarning):
            counts |= entry.message.counts
        else:
            warnings.warn_explicit(entry.message, entry.category, entry.filename, entry.lineno)
    return mesh, counts
