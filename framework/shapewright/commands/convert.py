"""``shapewright convert``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import patience_asked, registry_options, reported_warnings


@click.command("convert")
@click.argument("mesh", type=click.Path(readable=False, path_type=Path))
@click.argument("target", required=False, type=click.Path(readable=False, path_type=Path))
@click.option("--pipeline", help="A pipeline from mesh to mesh, e.g. roundtrip-o-voxel.")
@click.option(
    "-o",
    "--output",
    type=click.Path(readable=False, path_type=Path),
    help="A .glb, .obj, .ply, .stl or .off file; the same as TARGET.",
)
@click.option("--resolution", type=int, help="Cells an axis of the pipeline's representation.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace OUTPUT if it exists.")
@registry_options
def command(
    mesh: Path,
    target: Path | None,
    pipeline: str | None,
    output: Path | None,
    resolution: int | None,
    seed: int,
    overwrite: bool,
    registries: tuple[str, ...],
    overrides: tuple[str, ...],
) -> None:
    """Take MESH through a pipeline and write the result, in the position and size of the original.

    MESH may be a file of a representation's own format (`.vxz`) where the pipeline starts there. Without --pipeline,
    one of MESH and TARGET is such a file: a mesh is stored as one with its materials, it is made a mesh again with
    colours at its vertices, or rewritten in another format.
    """
    from ..errors import ConfigError, MeshError, PlanError
    from ..host import discover
    from ..plan import check
    from ..registry import load_registry
    from ..spec import satisfies

    if (target is None) == (output is None):
        raise click.UsageError("name the file to write once, as TARGET or with --output")
    output = output if target is None else target
    assert output is not None
    catalog = discover()
    if pipeline is None:
        from .convert_states import convert_states

        with reported_warnings(), patience_asked():
            convert_states(catalog, mesh, output, resolution, seed, overwrite)
        return
    entry = load_registry(registries, catalog).pipeline(pipeline, overrides)
    plan = check(pipeline, entry, catalog)
    if len(plan.inputs) != 1 or not satisfies(plan.tags[plan.output], "mesh"):
        raise PlanError(pipeline, ["convert wants a pipeline with one input, and a mesh as its result"])
    if resolution is not None:
        swept = [alias for alias, part in plan.parts.items() if part.spec.kind == "representation"]
        if not swept:
            raise ConfigError(f"pipeline {pipeline!r} has no representation that --resolution could set")
        for alias in swept:
            entry["components"][alias]["with"] = {
                **(entry["components"][alias].get("with") or {}),
                "resolution": resolution,
            }
        plan = check(pipeline, entry, catalog)

    from ..mesh_io import check_mesh_suffix, save_mesh
    from ..run import build_parts, execute, refuse_what_cannot_fit
    from ..run_files import refuse_outputs
    from .check import check_options
    from .convert_states import read_input

    check_mesh_suffix(output)
    refuse_outputs([output], overwrite)
    check_options(plan, catalog)
    parts = build_parts(plan, catalog)
    refuse_what_cannot_fit(parts, pipeline)
    with reported_warnings(), patience_asked():
        original, placement = read_input(catalog, mesh, plan)
        try:
            run = execute(plan, catalog, dict.fromkeys(plan.inputs, original), parts=parts, seed=seed, sample=mesh.name)
        except MeshError as error:
            raise MeshError(f"{mesh}: {error}") from None
    result = run.output
    if len(result.faces) == 0:
        raise MeshError(f"{mesh}: the result has no face; try a higher resolution or another pipeline")
    with reported_warnings():
        save_mesh(placement.restore(result), output, overwrite=overwrite)
    seconds = sum(run.seconds.values())
    click.echo(f"{output}: {len(result.vertices):,} vertices, {len(result.faces):,} faces in {seconds:.2f} s")
