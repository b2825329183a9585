"""Files of states: which plugin reads them, from a mesh to one, from one to a mesh, from one to another."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import click
import torch

from ..errors import ConfigError, MeshError, UnknownComponentError
from ..host import Catalog, discover
from ..normalise import Placement
from ..plan import Plan
from ..spec import FileFormat, satisfies


def format_of(catalog: Catalog, path: Path) -> FileFormat | None:
    """The format of a file by its name; the longest extension that fits."""
    offered = [each for group in catalog.hook.register_formats() for each in group]
    fitting = [each for each in offered if path.name.lower().endswith(each.suffix)]
    return max(fitting, key=lambda each: len(each.suffix), default=None)


def known_suffixes(catalog: Catalog) -> str:
    """The extensions of all formats, for messages."""
    found = sorted(each.suffix for group in catalog.hook.register_formats() for each in group)
    return ", ".join(found) or "none"


def _function(reference: str) -> Any:
    module, _, attribute = reference.partition(":")
    return getattr(import_module(module), attribute)


def describe(path: Path) -> dict[str, Any]:
    """What ``shapewright info FILE`` prints."""
    from ..mesh_io import READABLE

    catalog = discover()
    chosen = format_of(catalog, path)
    if chosen is None and path.suffix.lower() in READABLE:
        from .describe_mesh import describe_mesh

        return describe_mesh(path)
    if chosen is None and path.suffix.lower() == ".safetensors":
        from .describe_tensors import describe_tensors

        return describe_tensors(path)
    if chosen is None:
        meshes = f"meshes ({', '.join(READABLE)})"
        raise ConfigError(f"{path}: info reads {known_suffixes(catalog)}, .safetensors and {meshes}")
    facts: dict[str, Any] = _function(chosen.describe)(path)
    return {"file": str(path), **facts}


def read_input(catalog: Catalog, source: Path, plan: Plan) -> tuple[Any, Placement]:
    """What a plan with one input takes from ``source``: a mesh with its materials, or a state of a plugin's format."""
    (wanted,) = plan.inputs.values()
    chosen = format_of(catalog, source)
    if chosen is not None:
        if not satisfies(chosen.tag, wanted):
            raise ConfigError(f"{source}: holds {chosen.tag!r}, and pipeline {plan.name!r} starts from {wanted!r}")
        state, placement = _function(chosen.read)(source)
        return state, placement
    if not satisfies("mesh", wanted):
        offered = [each for group in catalog.hook.register_formats() for each in group]
        fitting = ", ".join(sorted(each.suffix for each in offered if satisfies(each.tag, wanted)))
        elsewhere = f", which convert does not read; `shapewright run {plan.name}` does"
        advice = f", files {fitting}" if fitting else elsewhere
        raise ConfigError(f"{source}: pipeline {plan.name!r} starts from {wanted!r}{advice}")
    from ..normalise import normalise
    from ..textured_meshes import load_textured_mesh

    mesh = load_textured_mesh(source)
    try:
        return normalise(mesh)
    except MeshError as error:
        raise MeshError(f"{source}: {error}") from None


def convert_states(
    catalog: Catalog, source: Path, target: Path, resolution: int | None, seed: int, overwrite: bool
) -> None:
    """Read ``source``, write ``target``; at least one of them is a file of a state."""
    from ..atomic import atomic_file
    from ..mesh_io import check_mesh_suffix, refuse_existing, save_mesh

    reads, writes = format_of(catalog, source), format_of(catalog, target)
    if reads is None and writes is None:
        raise ConfigError(
            f"neither {source.name} nor {target.name} is a file of a state ({known_suffixes(catalog)}); "
            "to take a mesh through a pipeline give --pipeline, e.g. roundtrip-o-voxel"
        )
    if writes is None:
        check_mesh_suffix(target)
    try:
        refuse_existing(target, overwrite)
    except MeshError as error:
        raise MeshError(f"{target}: {error}") from None
    if reads is None:
        assert writes is not None
        state, placement = _from_mesh(catalog, source, writes, resolution, seed)
    else:
        if resolution is not None:
            raise ConfigError("--resolution is for meshes; the file has one of its own")
        state, placement = _function(reads.read)(source)
    if writes is not None:
        with atomic_file(target) as temporary:
            _function(writes.write)(state, placement, temporary)
        click.echo(f"{target}: {target.stat().st_size:,} bytes, {len(state.coords):,} voxels")
        return
    kind = catalog.load(_component(catalog, "extractor", state.tag))
    mesh = kind(kind.Config()).extract(state)
    if len(mesh.faces) == 0:
        raise MeshError(f"{source}: the result has no face")
    if "metallic" in mesh.attributes:
        lost = "colours, metallic and roughness" if target.suffix.lower() == ".stl" else "metallic and roughness"
        click.echo(
            f"note: {target.name} has no place for {lost} at vertices; "
            "a .glb by --pipeline textured-from-o-voxel has textures of all",
            err=True,
        )
    save_mesh(placement.restore(mesh), target, overwrite=overwrite)
    click.echo(f"{target}: {len(mesh.vertices):,} vertices, {len(mesh.faces):,} faces")


def _from_mesh(catalog: Catalog, source: Path, chosen: FileFormat, resolution: int | None, seed: int) -> Any:
    from ..normalise import normalise
    from ..textured_meshes import load_textured_mesh

    kind = catalog.load(_component(catalog, "representation", chosen.tag))
    options = {} if resolution is None else {"resolution": resolution}
    component = kind(kind.Config(**options))
    mesh = load_textured_mesh(source)
    try:
        placed, placement = normalise(mesh)
        state = component.from_mesh(placed, rng=torch.Generator().manual_seed(seed))
    except MeshError as error:
        raise MeshError(f"{source}: {error}") from None
    if not state.attributes:
        click.echo(f"warning: {source}: no materials and no colours; the file holds geometry only", err=True)
    return state, placement


def _component(catalog: Catalog, kind: str, tag: str) -> str:
    """The component that makes (a representation) or takes (an extractor) a state of ``tag``."""
    for key, spec in sorted(catalog.specs.items()):
        if spec.kind != kind:
            continue
        for verb in spec.verbs.values():
            ports = verb.outputs if kind == "representation" else verb.inputs
            if any(
                satisfies(tag, wanted) if kind == "extractor" else satisfies(wanted, tag) for wanted in ports.values()
            ):
                return key
    raise UnknownComponentError(f"{kind}/{tag}", catalog.specs)
