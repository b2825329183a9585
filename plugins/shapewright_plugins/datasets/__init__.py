"""Sources of shapes: the procedural stress suite, folders of mesh files, meshes inside installed packages."""

from collections.abc import Iterable

from shapewright.plugin import ComponentSpec, hookimpl

_HERE = "shapewright_plugins.datasets"


@hookimpl
def register_components() -> Iterable[ComponentSpec]:
    """Three data sets; docs/datasets.md says how to add one."""
    return [
        ComponentSpec(
            "dataset",
            "stress-suite",
            f"{_HERE}.stress_suite:StressSuite",
            summary="procedural shapes with known counts, areas and volumes; no files needed",
            license="CC0-1.0",
        ),
        ComponentSpec(
            "dataset",
            "folder",
            f"{_HERE}.folder:Folder",
            summary="every readable mesh below a directory, with tags and licences of its manifest.json",
        ),
        ComponentSpec(
            "dataset",
            "pybullet-objects",
            f"{_HERE}.packaged:PybulletObjects",
            summary="1,000 abstract objects inside the pybullet wheel (pip install 'shapewright[datasets]')",
            license="Zlib",
        ),
    ]
