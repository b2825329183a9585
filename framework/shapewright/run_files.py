"""Files into the inputs of a pipeline by their tags, and results into files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ConfigError, MeshError
from .mesh_io import WRITABLE, refuse_existing, save_mesh
from .normalise import Placement, normalise
from .plan import Plan
from .spec import satisfies
from .state_files import load_state, save_state
from .states import FunctionField, Mesh

FLAGS = {"image": "--image FILE", "mesh": "--mesh FILE", "text": "--prompt TEXT"}
"""Tags that have an option of their own; values of every other tag come with ``--input NAME=FILE``."""


@dataclass(frozen=True)
class SampleInput:
    """One sample: what it is called, its values, and where its mesh was before it was normalised."""

    name: str
    values: Mapping[str, Any]
    placement: Placement | None = None
    sources: Mapping[str, str] = field(default_factory=dict)


def wanted(plan: Plan) -> str:
    """What a caller must give, in words."""
    parts = []
    for name, tag in plan.inputs.items():
        known = next((flag for base, flag in FLAGS.items() if satisfies(tag, base)), "")
        alone = sum(satisfies(other, tag.partition(".")[0]) for other in plan.inputs.values()) == 1
        parts.append(f"{name} ({known if known and alone else f'--input {name}=FILE'})")
    return ", ".join(parts) or "nothing"


def assign_sources(
    plan: Plan, given: Mapping[str, Sequence[str]], named: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Which text belongs to which input: ``given`` by tag (``image``, ``mesh``, ``text``), ``named`` by name.

    Raises:
        ConfigError: something is missing, left over, ambiguous, or given in different numbers.
    """
    sources = {name: list(values) for name, values in named.items()}
    for base, values in given.items():
        if not values:
            continue
        fitting = [name for name, tag in plan.inputs.items() if satisfies(tag, base) and name not in sources]
        flag = FLAGS[base].split()[0]
        if not fitting:
            raise ConfigError(f"pipeline {plan.name!r} takes no {base} ({flag}); it takes {wanted(plan)}")
        if len(fitting) > 1:
            raise ConfigError(f"{flag} could be {' or '.join(fitting)}; write --input {fitting[0]}=FILE")
        sources[fitting[0]] = list(values)
    missing = [name for name in plan.inputs if name not in sources]
    if missing:
        raise ConfigError(f"pipeline {plan.name!r} wants {wanted(plan)}; missing: {', '.join(missing)}")
    counts = {name: len(values) for name, values in sources.items() if len(values) != 1}
    if len(set(counts.values())) > 1:
        text = ", ".join(f"{count} for {name}" for name, count in counts.items())
        raise ConfigError(f"inputs must be given once or equally often, not {text}")
    return sources


def read_samples(plan: Plan, sources: Mapping[str, Sequence[str]]) -> list[SampleInput]:
    """Read every input of every sample; what is given once serves all.

    Raises:
        ImageError, MeshError, StateError: a file cannot be used. One line that names it.
    """
    count = max((len(values) for values in sources.values()), default=1)
    read = {name: [_read(plan.tags[name], text) for text in values] for name, values in sources.items()}
    leading = max(sources, key=lambda name: len(sources[name]), default="")
    samples, taken = [], dict[str, int]()
    for index in range(count):
        values = {name: items[index if len(items) > 1 else 0] for name, items in read.items()}
        texts = {name: items[index if len(items) > 1 else 0] for name, items in sources.items()}
        placements = [placement for _, placement in values.values() if placement is not None]
        stem = "sample" if not leading or satisfies(plan.tags[leading], "text") else Path(texts[leading]).stem
        taken[stem] = taken.get(stem, 0) + 1
        name = stem if taken[stem] == 1 else f"{stem}-{taken[stem]}"
        placement = placements[0] if len(placements) == 1 else None
        samples.append(SampleInput(name, {key: value for key, (value, _) in values.items()}, placement, texts))
    return samples


def _read(tag: str, text: str) -> tuple[Any, Placement | None]:
    if satisfies(tag, "text"):
        if not text.strip():
            raise ConfigError("the prompt is empty")
        return text, None
    stored = Path(text).suffix.lower() == ".safetensors"
    if satisfies(tag, "image") and not stored:
        from .images import load_image

        return load_image(text), None
    if satisfies(tag, "mesh") and not stored:
        from .textured_meshes import load_textured_mesh

        mesh = load_textured_mesh(text)  # texture coordinates and materials are part of what a stage may want
        try:
            return normalise(mesh)
        except MeshError as error:
            raise MeshError(f"{text}: {error}") from None
    value = load_state(text)
    found = getattr(value, "tag", "image")
    if not satisfies(found, tag):
        raise ConfigError(f"{text} holds a value tagged {found!r}, not {tag!r}")
    return value, None


# --- results ----------------------------------------------------------------------------------------------------------
def output_suffix(plan: Plan) -> str:
    """Extension of results where a folder is named."""
    return ".glb" if satisfies(plan.tags[plan.output], "mesh") else ".safetensors"


def output_paths(plan: Plan, output: Path, samples: Sequence[SampleInput]) -> list[Path]:
    """One file a sample: ``output`` itself for one; for several a folder, or a name with ``{name}`` in it.

    Raises:
        ConfigError: several results and one file, or an extension that the result cannot be written as.
    """
    if "{name}" in output.name:
        paths = [output.with_name(output.name.replace("{name}", sample.name)) for sample in samples]
    elif output.is_dir() or not output.suffix:
        paths = [output / f"{sample.name}{output_suffix(plan)}" for sample in samples]
    elif len(samples) > 1:
        raise ConfigError(
            f"{len(samples)} inputs give {len(samples)} results, and {output} is one file; "
            f"name a folder, or put {{name}} into it ({output.stem}-{{name}}{output.suffix})"
        )
    else:
        paths = [output]
    tag = plan.tags[plan.output]
    if satisfies(tag, FunctionField.tag):
        raise ConfigError(f"{plan.name!r} ends with {tag}, a function that no file holds; let a stage extract it")
    allowed = WRITABLE if satisfies(tag, "mesh") else (".safetensors",)
    wrong = next((path for path in paths if path.suffix.lower() not in allowed), None)
    if wrong is not None:
        raise ConfigError(f"{wrong}: results of {plan.name!r} ({tag}) are written as {', '.join(allowed)}")
    return paths


def refuse_outputs(paths: Sequence[Path], overwrite: bool) -> None:
    """What can be known beforehand about files to be written, so that nobody waits for a result that cannot be kept."""
    import os

    from .atomic import WriteError

    for path in paths:
        try:
            refuse_existing(path, overwrite)
        except MeshError as error:
            raise MeshError(f"{path}: {error}") from None
        existing = next(folder for folder in path.absolute().parents if folder.exists())
        if not existing.is_dir():
            raise WriteError(f"cannot write {path}: {existing} is a file, not a folder")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise WriteError(f"cannot write {path}: no permission to write in {existing}; choose another folder")


def write_result(value: Any, path: Path, placement: Placement | None = None, *, overwrite: bool = False) -> str:
    """Write a result, whole or not at all; a mesh goes back to where its input was. Returns what it is, in words."""
    if isinstance(value, Mesh):
        if not len(value.faces):
            raise MeshError(f"{path}: the result has no face; nothing was written")
        save_mesh(placement.restore(value) if placement is not None else value, path, overwrite=overwrite)
        return f"{len(value.vertices):,} vertices, {len(value.faces):,} faces"
    save_state(value, path, overwrite=overwrite)
    return str(getattr(value, "tag", type(value).__name__))


def keep_values(values: Mapping[str, Any], folder: Path) -> list[str]:
    """Write what stages made, as far as files can hold it; returns the names of what they cannot."""
    from .state_files import NotStorableError

    left = []
    for name, value in values.items():
        try:
            if isinstance(value, Mesh) and len(value.faces):
                save_mesh(value, folder / f"{name}.glb", overwrite=True)
            save_state(value, folder / f"{name}.safetensors", overwrite=True)
        except NotStorableError:
            left.append(name)
    return left
