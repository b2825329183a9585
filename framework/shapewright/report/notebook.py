"""A mesh as a notebook shows it: a view to turn, in a frame of its own."""

from __future__ import annotations

import base64
from html import escape
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from .display_mesh import encode
from .page import asset
from .views import display_mesh

if TYPE_CHECKING:
    from ..states import Mesh

_SIZE = 420


def mesh_html(mesh: Mesh) -> str:
    """An ``<iframe>`` with the mesh inside; without network, and cut off from the page around it.

    Args:
        mesh: any triangle mesh; one without faces, or with vertices that are not finite, is told in words.
    """
    summary = f"{len(mesh.vertices):,} vertices, {len(mesh.faces):,} faces"
    if not len(mesh.faces):
        return f"<p>Mesh: {summary}; nothing to show.</p>"
    positions = mesh.vertices.numpy(force=True)
    if not np.isfinite(positions).all():
        return f"<p>Mesh: {summary}; some vertices are not finite, so it cannot be shown.</p>"
    shown = display_mesh(mesh)
    lower, upper = shown.vertices.min(axis=0), shown.vertices.max(axis=0)
    centred = shown.moved(-(lower + upper) / 2)
    if len(shown.faces) < shown.full_faces:
        summary += f"; shown simplified with {len(shown.faces):,}"
    if not mesh.oriented:
        summary += "; the winding carries no meaning"
    page = Template(asset("notebook.html")).substitute(
        radius=f"{float(np.linalg.norm(centred.vertices, axis=1).max()) or 1.0:.6g}",
        summary=escape(summary),
        mesh=base64.b64encode(encode(centred)).decode(),
        script=asset("notebook.js"),
    )
    return (
        f'<iframe sandbox="allow-scripts" title="Mesh: {escape(summary)}" width="{_SIZE}" height="{_SIZE + 60}" '
        f'style="border:0;max-width:100%" srcdoc="{escape(page, quote=True)}"></iframe>'
    )
