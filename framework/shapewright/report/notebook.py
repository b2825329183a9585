"""One mesh to turn: in a frame of its own, as a notebook shows it, or as a page."""

from __future__ import annotations

import base64
from html import escape
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from .display_mesh import encode
from .mesh_paint import TextureLimits
from .page import asset
from .views import display_mesh

if TYPE_CHECKING:
    from ..states import Mesh

_SIZE = 420
_TEXTURES = TextureLimits(side=1024, texels=2 * 1024 * 1024)
"""One mesh alone may take more room than each of a bench."""
_MOST_FACES = 200_000
"""Of a page of its own; what a notebook shows is stored with it, and stays smaller."""
_SWITCH = '<label><input type="checkbox" id="material" checked>materials</label>'


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
    page, summary = _page(mesh, "Mesh")
    return (
        f'<iframe sandbox="allow-scripts" title="Mesh: {escape(summary)}" width="{_SIZE}" height="{_SIZE + 60}" '
        f'style="border:0;max-width:100%" srcdoc="{escape(page, quote=True)}"></iframe>'
    )


def mesh_page(mesh: Mesh, title: str) -> str:
    """A whole HTML page with the mesh in it.

    Args:
        mesh: with at least one face and finite vertices, as files are read.
        title: of the browser's tab.
    """
    return _page(mesh, title, _MOST_FACES)[0]


def _page(mesh: Mesh, title: str, most_faces: int | None = None) -> tuple[str, str]:
    """The page, and what it says of the mesh."""
    summary = f"{len(mesh.vertices):,} vertices, {len(mesh.faces):,} faces"
    shown = display_mesh(mesh, textures=_TEXTURES, most_faces=most_faces)
    lower, upper = shown.vertices.min(axis=0), shown.vertices.max(axis=0)
    centred = shown.moved(-(lower + upper) / 2)
    if len(shown.faces) < shown.full_faces:
        summary += f"; shown simplified with {len(shown.faces):,}"
    if not mesh.oriented:
        summary += "; the winding carries no meaning"
    page = Template(asset("notebook.html")).substitute(
        title=escape(title),
        radius=f"{float(np.linalg.norm(centred.vertices, axis=1).max()) or 1.0:.6g}",
        summary=escape(summary),
        edges="checked" if shown.paint is None else "",
        material="" if shown.paint is None else _SWITCH,
        mesh=base64.b64encode(encode(centred)).decode(),
        script=asset("notebook.js"),
    )
    return page, summary
