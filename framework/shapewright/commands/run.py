"""``shapewright run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import registry_options, reported_warnings, weights_options

DTYPES = ("auto", "float32", "float16", "bfloat16")


@click.command("run")
@click.argument("pipeline")
@click.option("--image", "images", multiple=True, metavar="FILE", help="An image; repeat it for several results.")
@click.option("--mesh", "meshes", multiple=True, metavar="FILE", help="A mesh; repeat it for several results.")
@click.option("--prompt", "prompts", multiple=True, metavar="TEXT", help="A text.")
@click.option(
    "--input", "named", multiple=True, metavar="NAME=FILE", help="A value by name, also one that a stage would make."
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(readable=False, path_type=Path),
    help="File of the result; for several a folder, or a name with {name} in it.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--dtype", type=click.Choice(DTYPES), default="auto", show_default=True, help="Of weights; auto: as stored."
)
@click.option(
    "--residency",
    type=click.Choice(["keep", "one-at-a-time", "offload"]),
    default="keep",
    show_default=True,
    help="Which networks stay on the device.",
)
@click.option(
    "--batch", type=click.IntRange(1), default=1, show_default=True, help="Samples a call of learned components."
)
@click.option(
    "--keep-stages", type=click.Path(path_type=Path), metavar="DIR", help="Write what every stage makes there."
)
@click.option(
    "--json", "card", type=click.Path(path_type=Path), metavar="FILE", help="Write what ran, times and memory."
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--debug", is_flag=True, help="Show where a stage failed.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
@weights_options
@registry_options
@click.pass_context
def command(
    context: click.Context,
    pipeline: str,
    images: tuple[str, ...],
    meshes: tuple[str, ...],
    prompts: tuple[str, ...],
    named: tuple[str, ...],
    output: Path,
    seed: int,
    device: str,
    dtype: str,
    residency: str,
    batch: int,
    keep_stages: Path | None,
    card: Path | None,
    overwrite: bool,
    debug: bool,
    quiet: bool,
    weights: tuple[Path, ...],
    offline: bool,
    random_weights: int | None,
    registries: tuple[str, ...],
    overrides: tuple[str, ...],
) -> None:
    """Run PIPELINE from files to a file: an image to a mesh, a mesh to latents, whatever it declares."""
    from ..host import discover
    from ..plan import check, started_from
    from ..registry import load_registry

    catalog = discover()
    registry = load_registry(registries, catalog)
    entry = registry.pipeline(pipeline, overrides)
    values = _named(named)
    plan = check(pipeline, entry, catalog)
    if set(values) - set(plan.inputs):
        plan = started_from(plan, values)
        values = {name: texts for name, texts in values.items() if name in plan.inputs}

    # Everything that can be refused is refused before weights are looked at, and those before anything runs.
    from ..run_files import assign_sources, keep_values, output_paths, read_samples, refuse_outputs, write_result

    sources = assign_sources(plan, {"image": images, "mesh": meshes, "text": prompts}, values)
    with reported_warnings():
        samples = read_samples(plan, sources)
    paths = output_paths(plan, output, samples)
    refuse_outputs([*paths, *([card] if card else [])], overwrite)

    import torch

    from ..residency import Residency
    from ..runner import Watch, run_samples
    from ..weights.locate import Places, weights_folders
    from ..weights.provide import provide
    from .check import check_options

    check_options(plan, catalog)
    target = chosen_device(device)
    places = Places(weights_folders(weights, registry.defaults.get("weights", {}).get("folders", ())), offline=offline)
    kind = None if dtype == "auto" else getattr(torch, dtype)
    with reported_warnings():
        provided = provide(plan, catalog, places=places, dtype=kind, random_seed=random_weights)

    progress = _Progress(len(plan.stages), quiet)
    if random_weights is not None:
        progress.line("random weights: the result is noise")
    unstored: set[str] = set()

    def kept(index: int, made: Any) -> None:
        if keep_stages is not None:
            unstored.update(keep_values(made, keep_stages / samples[index].name))

    resident = Residency(provided.parts, provided.fillers, policy=residency, device=target, observe=progress.moved)
    with reported_warnings():
        finished = run_samples(
            plan,
            catalog,
            [sample.values for sample in samples],
            resident,
            seed=seed,
            batch=batch,
            watch=Watch(progress.before, progress.after, kept),
        )
    if unstored:
        progress.line(f"not kept, since no file holds a function: {', '.join(sorted(unstored))}")
    outcomes = []
    with reported_warnings():
        for sample, result, path in zip(samples, finished.samples, paths, strict=True):
            outcomes.append(_written(sample, result, path, plan.output, overwrite, write_result))
    if card is not None:
        from ..atomic import write_json
        from ..run_card import run_card

        write_json(
            card,
            run_card(
                plan, catalog, entry, provided, finished, progress.loads, outcomes,
                seed=seed, device=str(target), dtype=dtype, residency=residency, batch=batch, inputs=samples,
            ),
        )  # fmt: skip
    _report(context, finished, outcomes, debug)


def _named(texts: tuple[str, ...]) -> dict[str, list[str]]:
    from ..errors import ConfigError

    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"--input {text!r}: write it as NAME=FILE")
        found.setdefault(name, []).append(value)
    return found


def chosen_device(name: str) -> Any:
    """``torch.device`` of an option; raises :class:`ConfigError` where it is not there."""
    import torch

    from ..errors import ConfigError

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device {name!r} is unknown; there is auto, cpu, cuda and cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r} is not supported; there is auto, cpu, cuda and cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r} is not here: {torch.cuda.device_count()} CUDA devices are; use --device cpu"
        )
    return device


def _written(sample: Any, result: Any, path: Path, output: str, overwrite: bool, write: Any) -> dict[str, Any]:
    from ..errors import ShapewrightError

    outcome = {"name": sample.name, "inputs": dict(sample.sources), "output": None, "status": "failed"}
    if result.failure is not None:
        return outcome | {"stage": result.failure.stage, "reason": result.failure.reason}
    try:
        text = write(result.values[output], path, sample.placement, overwrite=overwrite)
    except ShapewrightError as error:
        return outcome | {"stage": "", "reason": str(error), "refused": error}
    return outcome | {"output": str(path), "status": "ok", "reason": "", "result": text}


def _report(context: click.Context, finished: Any, outcomes: list[dict[str, Any]], debug: bool) -> None:
    from ..cli import EXIT_FAILED
    from ..errors import ShapewrightError

    seconds = sum(record.seconds for record in finished.stages)
    failed = [(outcome, result.failure) for outcome, result in zip(outcomes, finished.samples, strict=True)]
    failed = [pair for pair in failed if pair[0]["status"] != "ok"]
    for outcome in outcomes:
        if outcome["status"] == "ok":
            click.echo(f"{outcome['output']}: {outcome['result']} in {seconds / len(outcomes):.2f} s")
    for outcome, failure in failed:
        if debug and failure is not None:
            click.echo(failure.trace, err=True)
        where = f"stage {outcome['stage']}: " if outcome["stage"] else ""
        if len(outcomes) == 1:
            error = failure.error if failure is not None else outcome["refused"]
            if isinstance(error, ShapewrightError):
                raise ShapewrightError(f"{where}{error}") from error
        click.echo(f"error: {outcome['name']}: {where}{' '.join(outcome['reason'].split())}", err=True)
    if failed:
        context.exit(EXIT_FAILED)


class _Progress:
    """Lines on standard error while a run is on its way, and what was read or moved."""

    def __init__(self, stages: int, quiet: bool) -> None:
        self.stages = stages
        self.quiet = quiet
        self.loads: list[dict[str, Any]] = []

    def line(self, text: str) -> None:
        if not self.quiet:
            click.echo(text, err=True)

    def before(self, index: int, stage: Any, samples: int) -> None:
        many = f" ({samples} samples)" if samples > 1 else ""
        self.line(f"[{index + 1}/{self.stages}] {stage.id}{many}")

    def after(self, index: int, record: Any) -> None:
        used = record.device_bytes if record.device_bytes is not None else record.host_bytes
        self.line(f"      {record.seconds:.2f} s, {used / 2**20:,.0f} MiB at its peak")

    def moved(self, action: str, alias: str, seconds: float, size: int) -> None:
        self.loads.append({"action": action, "component": alias, "seconds": seconds, "bytes": size})
        if action == "read":
            self.line(f"      read {alias}: {size / 2**20:,.0f} MiB in {seconds:.2f} s")
