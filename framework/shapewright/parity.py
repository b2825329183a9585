"""Golden cases: stored inputs, parameters and outputs of published systems, and how an answer is compared with them."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import ShapewrightError
from .host import Catalog
from .spec import ParityHandler


class GoldenCaseError(ShapewrightError, ValueError):
    """A file is not a golden case (see docs/parity.md for the format)."""


@dataclass(frozen=True)
class GoldenCase:
    """One case: a safetensors file with tensors ``param.*``, ``in.*``, ``out.*`` and string metadata."""

    name: str
    path: Path
    system: str
    component: str
    config: Mapping[str, Any]
    notes: str
    atol: float
    rtol: float
    metadata: Mapping[str, str] = field(repr=False)
    params: Mapping[str, Tensor] = field(repr=False)
    inputs: Mapping[str, Tensor] = field(repr=False)
    outputs: Mapping[str, Tensor] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Difference:
    """Result of one comparison; ``limit`` is the rule in words."""

    ok: bool
    max_abs: float
    max_rel: float
    limit: str


Rule = Callable[[Tensor, Tensor], Difference]
"""``rule(got, wanted)``; the stored tensor is ``wanted``."""


@dataclass(frozen=True)
class Answer:
    """What a handler computed: one value for every ``out.*`` of its case, in the row order that the notes define.

    ``rules`` replaces the default comparison (``|got - wanted| <= atol + rtol |wanted|``; integers, booleans exactly)
    where the notes ask for another one, such as :func:`quantiles`.
    """

    values: Mapping[str, Tensor]
    rules: Mapping[str, Rule] = field(default_factory=dict)


def _magnitude(values: Tensor) -> Tensor:
    if not (values.is_complex() or values.is_floating_point()):
        return values.long().abs().double()
    return values.to(torch.complex128 if values.is_complex() else torch.float64).abs().nan_to_num(0.0, 0.0, 0.0)


def _errors(got: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Absolute and relative error of every element; the relative one against at least a millionth of the largest
    value."""
    if got.is_floating_point() or got.is_complex() or wanted.is_floating_point() or wanted.is_complex():
        kind = torch.complex128 if got.is_complex() or wanted.is_complex() else torch.float64
        absolute = (got.to(kind) - wanted.to(kind)).abs()
        absolute = torch.where((got == wanted) | (got.isnan() & wanted.isnan()), torch.zeros_like(absolute), absolute)
    else:
        absolute = (got.long() - wanted.long()).abs().double()
    magnitude = _magnitude(wanted)
    floor = 1e-6 * float(magnitude.max()) if magnitude.numel() else 0.0
    return absolute, absolute / magnitude.clamp_min(max(floor, 1e-300))


def _largest(errors: Tensor) -> float:
    return float(errors.max()) if errors.numel() else 0.0


def close(atol: float, rtol: float) -> Rule:
    """``|got - wanted| <= atol + rtol |wanted|`` for every element."""

    def rule(got: Tensor, wanted: Tensor) -> Difference:
        absolute, relative = _errors(got, wanted)
        ok = bool((absolute <= atol + rtol * _magnitude(wanted)).all())
        return Difference(ok, _largest(absolute), _largest(relative), f"atol {atol:g}, rtol {rtol:g}")

    return rule


def exact(got: Tensor, wanted: Tensor) -> Difference:
    """Equality of every element."""
    absolute, relative = _errors(got, wanted)
    return Difference(bool((absolute == 0).all()), _largest(absolute), _largest(relative), "exact")


def quantiles(median: float, p99: float, maximum: float, *, scale: float = 1.0) -> Rule:
    """Median, 99th percentile and maximum of ``|got - wanted| * scale`` below three limits (nearly singular solves)."""

    def rule(got: Tensor, wanted: Tensor) -> Difference:
        absolute, relative = _errors(got, wanted)
        scaled = absolute.flatten() * scale
        found = [float(np.quantile(scaled.numpy(), q)) if scaled.numel() else 0.0 for q in (0.5, 0.99, 1.0)]
        ok = found[0] < median and found[1] < p99 and found[2] < maximum
        limit = f"median {median:g}, p99 {p99:g}, max {maximum:g}"
        return Difference(ok, _largest(scaled), _largest(relative), limit)

    return rule


def share_within(tolerance: float, share: float) -> Rule:
    """At least ``share`` of all elements within ``tolerance`` (bytes that were truncated from floats)."""

    def rule(got: Tensor, wanted: Tensor) -> Difference:
        absolute, relative = _errors(got, wanted)
        ok = absolute.numel() == 0 or float((absolute <= tolerance).double().mean()) >= share
        return Difference(ok, _largest(absolute), _largest(relative), f"{share:.0%} within {tolerance:g}")

    return rule


def procedural_parameters(rule: Mapping[str, Any]) -> dict[str, Tensor]:
    """Parameters that a case defines by a rule instead of storing them.

    ``rule`` is ``{"seed": s, "tensors": {key: {"shape", "scale", "offset"}}}``; element ``i`` (C order) is
    ``offset + scale * (2 u - 1)`` with ``u`` from a 32-bit integer hash of ``i`` and ``crc32(key) ^ s``.

    >>> rule = {"seed": 0, "tensors": {"decoder.out_layer.weight": {"shape": [1, 4], "scale": 1, "offset": 0}}}
    >>> [round(value, 5) for value in procedural_parameters(rule)["decoder.out_layer.weight"][0].tolist()]
    [-0.16934, 0.25419, -0.43312, -0.26464]
    """
    made = {}
    for key, body in rule["tensors"].items():
        shape = tuple(body["shape"])
        mixed = np.arange(int(np.prod(shape)), dtype=np.uint32) * np.uint32(0x9E3779B1)
        mixed += np.uint32(zlib.crc32(key.encode()) ^ int(rule["seed"]))
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            mixed ^= mixed >> np.uint32(shift)
            mixed *= np.uint32(factor)
        mixed ^= mixed >> np.uint32(16)
        values = body.get("offset", 0.0) + body["scale"] * (2 * (mixed / 2.0**32) - 1)
        made[key] = torch.from_numpy(values.astype(np.float32)).reshape(shape)
    return made


def load_case(path: str | Path) -> GoldenCase:
    """Read one golden case.

    Raises:
        GoldenCaseError: the file is missing, is no safetensors file, or lacks what makes it a golden case.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise GoldenCaseError(f"{path}: no such file") from None
    except (OSError, SafetensorError) as error:
        raise GoldenCaseError(f"{path}: not a safetensors file ({str(error).splitlines()[0]})") from None
    groups: dict[str, dict[str, Tensor]] = {"param": {}, "in": {}, "out": {}}
    for name, tensor in tensors.items():
        group, _, rest = name.partition(".")
        if group not in groups or not rest:
            raise GoldenCaseError(f"{path}: tensor {name!r} is none of param.*, in.*, out.*")
        groups[group][rest] = tensor
    try:
        config = json.loads(metadata.get("config") or "{}")
        if "param_rule" in metadata:
            groups["param"] |= procedural_parameters(json.loads(metadata["param_rule"]))
        limits = {}
        for name in ("atol", "rtol"):
            text = metadata.get(name, "0")
            limits[name] = 0.0 if text == "exact" else float(text)
        system, component = metadata["system"], metadata["component"]
    except KeyError as error:
        raise GoldenCaseError(f"{path}: the metadata has no {error.args[0]!r}") from None
    except (ValueError, TypeError) as error:
        raise GoldenCaseError(f"{path}: the metadata cannot be read ({error})") from None
    if not groups["out"]:
        raise GoldenCaseError(f"{path}: holds no out.* tensor to compare with")
    return GoldenCase(
        name=path.stem,
        path=path,
        system=system,
        component=component,
        config=config,
        notes=metadata.get("notes", ""),
        atol=limits["atol"],
        rtol=limits["rtol"],
        metadata=metadata,
        params=groups["param"],
        inputs=groups["in"],
        outputs=groups["out"],
    )


def find_cases(paths: Iterable[str | Path]) -> list[Path]:
    """The case files named, and every ``*.safetensors`` below the folders named, in a stable order."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(path.rglob("*.safetensors"))
            if not inside:
                raise GoldenCaseError(f"{path}: no *.safetensors file below this folder")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise GoldenCaseError(f"{path}: no such file or folder")
    return found


@dataclass(frozen=True, slots=True)
class CaseResult:
    """Verdict on one case; errors are the largest over all its outputs."""

    case: str
    system: str
    component: str
    status: Literal["pass", "fail", "no-handler"]
    max_abs: float | None = None
    max_rel: float | None = None
    limit: str = ""
    reason: str = ""
    outputs: Mapping[str, Difference] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """A JSON row; errors that are not finite are null."""
        row: dict[str, Any] = {"case": self.case, "system": self.system, "component": self.component}
        row |= {"status": self.status, "max_abs": _finite(self.max_abs), "max_rel": _finite(self.max_rel)}
        row |= {"reason": self.reason, "outputs": {}}
        for name, difference in self.outputs.items():
            row["outputs"][name] = {
                "ok": difference.ok,
                "max_abs": _finite(difference.max_abs),
                "max_rel": _finite(difference.max_rel),
                "limit": difference.limit,
            }
        return row


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def handlers(catalog: Catalog) -> dict[tuple[str, str], ParityHandler]:
    """Who answers for which (system, component); two answers for one are an error naming both functions."""
    found: dict[tuple[str, str], ParityHandler] = {}
    for handler in (handler for group in catalog.hook.register_parity_handlers() for handler in group):
        key = (handler.system, handler.component)
        if key in found:
            raise ShapewrightError(
                f"{handler.function} and {found[key].function} both answer for {key[0]}/{key[1]}; uninstall one of them"
            )
        found[key] = handler
    return found


def compare(case: GoldenCase, answer: Answer) -> CaseResult:
    """Compare an answer with every stored output of its case."""
    differences: dict[str, Difference] = {}
    problems: list[str] = []
    for name, wanted in case.outputs.items():
        if name not in answer.values:
            problems.append(f"out.{name} is not answered")
            continue
        got = answer.values[name].detach().cpu()
        if got.shape != wanted.shape:
            problems.append(f"out.{name} has shape {tuple(got.shape)}, the case stores {tuple(wanted.shape)}")
            continue
        inexact = wanted.is_floating_point() or wanted.is_complex()
        rule = answer.rules.get(name) or (close(case.atol, case.rtol) if inexact else exact)
        differences[name] = rule(got, wanted)
        if not differences[name].ok:
            problems.append(f"out.{name} differs by {differences[name].max_abs:.3g} ({differences[name].limit})")
    worst = max(differences.values(), key=lambda d: (not d.ok, d.max_abs), default=Difference(False, 0, 0, ""))
    return CaseResult(
        case.name,
        case.system,
        case.component,
        "fail" if problems else "pass",
        max((d.max_abs for d in differences.values()), default=None),
        max((d.max_rel for d in differences.values()), default=None),
        worst.limit,
        "; ".join(problems),
        differences,
    )


def run_case(path: Path, known: Mapping[tuple[str, str], ParityHandler]) -> CaseResult:
    """Run one case against its handler; whatever goes wrong is the result, so that the other cases still run."""
    try:
        case = load_case(path)
    except GoldenCaseError as error:
        return CaseResult(path.stem, "", "", "fail", reason=str(error))
    handler = known.get((case.system, case.component))
    if handler is None:
        return CaseResult(case.name, case.system, case.component, "no-handler", reason="nobody answers for it")
    module, _, function = handler.function.partition(":")
    try:
        answer = getattr(import_module(module), function)(case)
        return compare(case, answer)
    except Exception as error:  # a handler may fail in any way; its case fails with the reason
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return CaseResult(case.name, case.system, case.component, "fail", reason=reason)
