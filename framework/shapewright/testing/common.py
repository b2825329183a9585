"""Checks that mean the same for every kind."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from .. import interfaces
from ..errors import ConfigError
from ..run import configure
from ..spec import satisfies
from .check import Check, NotHere, require
from .examples import calls
from .subject import Call, Subject, on_device, tag_of
from .values import cast, clone, difference, floats, map_tensors, tensors
from .wellformed import require_well_formed

HEAVY = ("torch", "numba", "trimesh", "scipy", "manifold3d", "omegaconf", "triton", "pandas", "matplotlib")
OWN_VERBS: dict[str, tuple[str, ...]] = {
    "representation": ("from_mesh",),
    "encoder": ("encode", "decode", "upsample"),
    "generator": ("sample",),
    "attention": ("forward",),
    "extractor": ("extract",),
    "conditioner": ("encode",),
    "sampler": ("integrate",),
    "transform": ("apply",),
    "renderer": ("render",),
    "dataset": ("ids", "load"),
    "metric": ("measure",),
}
STAGES = ("representation", "encoder", "generator", "extractor", "conditioner", "transform", "renderer")
"""Kinds that pipelines run by their verbs, which therefore must be declared."""
TAGGED = ("representation", "encoder", "generator", "extractor", "conditioner")
"""Kinds whose results are states."""


# --- import, options, signatures --------------------------------------------------------------------------------------
def light_import(subject: Subject) -> None:
    """In a process of its own, because everything is imported already in this one."""
    module = _plugin_module(subject)
    if not getattr(module, "__file__", None):
        raise NotHere(f"the plugin module {module.__name__} was made at run time and has no file to import")
    found, error = _imported_by(module.__name__, tuple(sys.path))
    require(not error, f"importing {module.__name__} alone fails: {error}")
    require(
        not found,
        f"importing {module.__name__} and asking for its specs imports {', '.join(found)}; describe components there "
        "and import heavy packages in the module that the factory names",
    )


def _plugin_module(subject: Subject) -> ModuleType:
    owner = subject.catalog.owner(subject.spec.key)
    plugin = subject.catalog.manager.get_plugin(f"{owner.distribution}:{owner.name}")
    assert isinstance(plugin, ModuleType)
    return plugin


_PROBE = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
error = ""
try:
    module = __import__(sys.argv[2], fromlist=["x"])
    list(module.register_components())
except BaseException as problem:
    error = f"{type(problem).__name__}: {problem}"
print(json.dumps([[name for name in json.loads(sys.argv[3]) if name in sys.modules], error]))
"""


@cache
def _imported_by(module: str, path: tuple[str, ...]) -> tuple[list[str], str]:
    arguments = [json.dumps(path), module, json.dumps(HEAVY)]
    done = subprocess.run([sys.executable, "-c", _PROBE, *arguments], capture_output=True, text=True, timeout=60)
    if done.returncode:
        return [], done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit status {done.returncode}"
    found, error = json.loads(done.stdout.splitlines()[-1])
    return found, error


def builds(subject: Subject) -> None:
    """Options with defaults, in a frozen dataclass that refuses what it does not know; then an instance."""
    cls, kind = subject.cls, subject.spec.kind
    interface = getattr(interfaces, kind.capitalize())
    require(isinstance(cls, type), f"{subject.spec.factory} is not a class")
    require(issubclass(cls, interface), f"{cls.__name__} does not derive from shapewright.{interface.__name__}")
    left = sorted(getattr(cls, "__abstractmethods__", ()))
    if kind != "encoder":  # a decoder-only encoder leaves `encode` to raise, but must define it
        require(not left, f"{cls.__name__} does not define {', '.join(left)}")
    config = getattr(cls, "Config", None)
    require(isinstance(config, type) and is_dataclass(config), f"{cls.__name__}.Config is not a dataclass")
    assert isinstance(config, type)
    require(config.__dataclass_params__.frozen, f"{cls.__name__}.Config is not frozen")  # type: ignore[attr-defined]
    try:
        config()
    except TypeError as error:
        require(False, f"{cls.__name__}.Config cannot be made without arguments: {error}")
    except ConfigError:
        pass  # the defaults have an opinion of their own; the instance below tells more
    refused = False
    try:
        configure(cls, {"no_such_option": 1}, subject.spec.key)
    except ConfigError:
        refused = True
    require(refused, f"{cls.__name__}.Config takes the unknown option 'no_such_option'")
    component = subject.component
    require(
        isinstance(getattr(component, "config", None), config),
        f"{cls.__name__} does not keep its options as .config; pass them to super().__init__",
    )


def ports(subject: Subject) -> None:
    """The verbs that the spec declares are methods that take the declared ports."""
    spec, cls = subject.spec, subject.cls
    own = OWN_VERBS[spec.kind]
    if spec.kind in STAGES:
        require(any(name in spec.verbs for name in own), f"the spec of a {spec.kind} declares none of {', '.join(own)}")
    wanted: dict[str, Mapping[str, str]] = {name: verb.inputs for name, verb in spec.verbs.items()}
    if spec.kind == "metric":
        wanted = {"measure": {"pair": "mesh"}}  # its two ports arrive together
    elif spec.kind == "dataset":
        wanted = {"ids": {}, "load": {"id": "text"}}
    elif not wanted:
        wanted = {"forward": {"hidden": "", "layout": "", "context": "?", "context_layout": "?"}}
        if spec.kind == "sampler":
            wanted = {"integrate": {"model": "", "noise": "", "steps": "", "guidance": ""}}
    for name, inputs in wanted.items():
        method = getattr(cls, name, None)
        require(callable(method), f"{cls.__name__} has no method {name}, which the spec declares")
        require(
            name not in spec.verbs or spec.verbs[name].outputs,
            f"the verb {name} declares no output, so nothing uses it",
        )
        _require_signature(cls.__name__, name, method, inputs, spec.kind)


def _require_signature(owner: str, name: str, method: Any, inputs: Mapping[str, str], kind: str) -> None:
    parameters = dict(list(inspect.signature(method).parameters.items())[1:])
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    require(not anything, f"{owner}.{name} takes **keywords; name its ports")
    for port, tag in inputs.items():
        found = parameters.get(port)
        require(found is not None, f"{owner}.{name} takes no {port!r}, which the spec declares")
        assert found is not None
        optional = tag.endswith("?")
        require(
            not optional or found.default is not found.empty,
            f"{owner}.{name}: {port!r} may be left out ({tag}), but has no default",
        )
        by_name = found.kind is not found.POSITIONAL_ONLY
        require(by_name, f"{owner}.{name}: {port!r} cannot be given by name")
    allowed = {*inputs, "rng"} | ({"steps", "guidance"} if kind == "sampler" else set())
    for parameter, found in parameters.items():
        required = found.default is found.empty and found.kind in (found.POSITIONAL_OR_KEYWORD, found.KEYWORD_ONLY)
        require(
            parameter in allowed or not required,
            f"{owner}.{name} wants {parameter!r}, which is no port of the spec and has no default",
        )


# --- results ----------------------------------------------------------------------------------------------------------
def outputs(subject: Subject) -> None:
    """Each call gives the ports that the spec declares, with their tags, and values that keep their own contract."""
    for call in calls(subject):
        for port, value in result_ports(subject, call).items():
            where = f"{call.verb}({call.label}) {port}"
            declared = subject.spec.verbs[call.verb].outputs[port] if call.verb in subject.spec.verbs else ""
            tag = tag_of(value)
            if declared and subject.spec.kind in TAGGED and port != "guides":
                require(tag, f"{where}: a {type(value).__name__} has no tag; the spec declares {declared!r}")
            if tag and declared:
                require(satisfies(tag, declared), f"{where}: tagged {tag!r}, the spec declares {declared!r}")
            require_well_formed(value, where)


def result_ports(subject: Subject, call: Call) -> dict[str, Any]:
    """The result of a call by declared output port."""
    result = subject.result(call)
    verb = subject.spec.verbs.get(call.verb)
    declared = list(verb.outputs) if verb else ["result"]
    if hasattr(result, "_asdict"):
        given = result._asdict()
        lacking = [port for port in declared if port not in given]
        require(not lacking, f"{call.verb} gives no {', '.join(lacking)}, which the spec declares")
        return {port: given[port] for port in declared}
    require(
        len(declared) == 1,
        f"{call.verb} declares {', '.join(declared)} but gives one {type(result).__name__}; return a named tuple",
    )
    return {declared[0]: result}


def deterministic(subject: Subject) -> None:
    """The same input and stream give the same bits."""
    for call in calls(subject):
        found = difference(clone(subject.run(call)), clone(subject.run(call)))
        require(not found, f"{call.verb}({call.label}) twice with the same stream: {found}")


def pure(subject: Subject) -> None:
    """A call leaves its arguments, the global random state, the default dtype and the gradient mode as they are."""
    for call in calls(subject):
        before = clone(dict(call.arguments))
        state, dtype, grad = torch.get_rng_state(), torch.get_default_dtype(), torch.is_grad_enabled()
        try:
            subject.run(call)
            same = torch.equal(torch.get_rng_state(), state)
            kept = torch.get_default_dtype() == dtype
            mode = torch.is_grad_enabled() == grad
        finally:
            torch.set_rng_state(state)
            torch.set_default_dtype(dtype)
            torch.set_grad_enabled(grad)
        where = f"{call.verb}({call.label})"
        found = difference(dict(call.arguments), before, path="arguments")
        require(not found, f"{where} changes its {found}")
        require(same, f"{where} draws from or seeds torch's global random state; use the generator that is passed in")
        require(kept, f"{where} changes torch's default dtype")
        require(mode, f"{where} changes torch's gradient mode")


def dtype(subject: Subject) -> None:
    """Single and double precision go in, and come out where the result is as precise as its input."""
    for call in calls(subject):
        if not floats(dict(call.arguments)):
            continue
        for precision in (torch.float32, torch.float64):
            result = in_precision(subject, call, precision)
            for path, tensor in floats(result):
                require(
                    tensor.dtype == precision,
                    f"{call.verb}({call.label}): {precision} in, {path or 'result'} is {tensor.dtype}",
                )


def in_precision(subject: Subject, call: Call, precision: torch.dtype) -> Any:
    """The result of ``call`` with arguments, and weights if any, in ``precision``."""
    component = subject.fresh() if isinstance(subject.component, nn.Module) else subject.component
    if isinstance(component, nn.Module):
        component = component.to(precision)
    return subject.run(Call(call.label, call.verb, cast(dict(call.arguments), precision)), component)


def devices(subject: Subject) -> None:
    """Where a CUDA device is claimed and present, it gives what the CPU gives, on that device."""
    if "cuda" not in subject.spec.capabilities.devices:
        raise NotHere("only the CPU is claimed")
    if not torch.cuda.is_available():
        raise NotHere("no CUDA device")
    for call in calls(subject):
        component = subject.fresh()
        if isinstance(component, nn.Module):
            component = component.to("cuda")
        there = on_device(dict(call.arguments), "cuda")
        result = subject.run(Call(call.label, call.verb, there), component)
        if subject.spec.kind not in ("metric", "dataset"):
            left = [path for path, tensor in tensors(result) if tensor.device.type != "cuda"]
            require(not left, f"{call.verb}({call.label}): on the CPU though the input was on CUDA: {left[:1]}")
        found = difference(on_device(result, "cpu"), subject.result(call), relative=1e-3, absolute=1e-4)
        require(not found, f"{call.verb}({call.label}) on CUDA and on the CPU: {found}")


# --- gradients --------------------------------------------------------------------------------------------------------
STEP = 1e-6


def differentiable(subject: Subject) -> None:
    """Gradients of the result in the input agree with central differences along random directions."""
    for call in calls(subject):
        component = subject.fresh() if isinstance(subject.component, nn.Module) else subject.component
        if isinstance(component, nn.Module):
            component = component.double()
        arguments = cast(dict(call.arguments), torch.float64)
        leaves = floats(arguments)
        where = f"{call.verb}({call.label})"
        moved = 0
        for index, (path, _) in enumerate(leaves):
            slope, rise = _slopes(subject, call, component, arguments, index)
            moved += abs(rise) > 1e-9
            reached = slope is not None or abs(rise) < 1e-6
            require(reached, f"{where}: no gradient reaches {path or 'the input'}, though the result moves with it")
            require(
                agree(slope, rise), f"{where}: the gradient in {path} says {slope or 0:.6g}, differences say {rise:.6g}"
            )
        require(moved, f"{where}: nothing that goes in moves the result, so there is nothing to differentiate")


def _slopes(
    subject: Subject, call: Call, component: Any, arguments: dict[str, Any], chosen: int
) -> tuple[float | None, float]:
    """Directional derivative of a weighted sum of the result by autograd and by differences, along one leaf.

    Everything that goes in asks for gradients each time, because a component may compute otherwise where nothing
    does.
    """

    def result(amount: Tensor) -> tuple[Tensor, list[Tensor]]:
        order = iter(range(len(floats(arguments))))

        def move(tensor: Tensor) -> Tensor:
            if not tensor.is_floating_point():
                return tensor
            index = next(order)
            if index != chosen:
                return tensor.detach().clone().requires_grad_()
            direction = torch.randn(tensor.shape, generator=subject.rng("direction", index), dtype=tensor.dtype)
            return tensor + amount * direction

        with torch.enable_grad():
            made = subject.run(Call(call.label, call.verb, map_tensors(arguments, move)), component)
        total = torch.zeros((), dtype=torch.float64)
        for number, (_, tensor) in enumerate(floats(made)):
            weights = torch.randn(tensor.shape, generator=subject.rng("weights", number), dtype=torch.float64)
            total = total + (weights * tensor.double()).sum()
        return total, [tensor for _, tensor in tensors(made) if not tensor.is_floating_point()]

    def at(step: float) -> Tensor:
        return torch.tensor(step, dtype=torch.float64, requires_grad=True)

    amount = at(0.0)
    total, structure = result(amount)
    slope = torch.autograd.grad(total, amount, allow_unused=True)[0] if total.requires_grad else None
    said = None if slope is None else float(slope)
    rise = 0.0
    for step in (STEP, STEP / 10, STEP / 100):
        (above, up), (below, down) = result(at(step)), result(at(-step))
        rise = float(above - below) / (2 * step)
        # Indices may change where nothing moves, as the diagonals of quads do where two are equally good.
        if agree(said, rise) or (_same_tensors(up, structure) and _same_tensors(down, structure)):
            return said, rise
    return said, rise


def agree(slope: float | None, rise: float) -> bool:
    """Whether a gradient and a difference quotient are the same up to rounding; no gradient means 0."""
    return abs((slope or 0.0) - rise) <= 1e-4 * max(abs(rise), abs(slope or 0.0)) + 1e-6


def _same_tensors(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(map(torch.equal, a, b))


# --- the checks -------------------------------------------------------------------------------------------------------
LIGHT_IMPORT = Check(
    "light_import", "the plugin's module can be imported and asked for its specs without torch", light_import, True
)
BUILDS = Check("builds", "options are a frozen dataclass with defaults that refuses unknown ones", builds, True)
PORTS = Check("ports", "verbs are methods that take the ports of the spec, optional ones with a default", ports, True)
OUTPUTS = Check("outputs", "results carry the declared tags and are well formed", outputs, True)
DETERMINISTIC = Check(
    "deterministic", "the same input and stream give the same bits", deterministic, True, "deterministic"
)
PURE = Check("pure", "arguments, global random state, default dtype and gradient mode stay as they were", pure)
DTYPE = Check("dtype", "single precision in, single out; double in, double out", dtype)
DEVICES = Check("devices", "CUDA gives what the CPU gives (where claimed and present)", devices)
DIFFERENTIABLE = Check(
    "differentiable", "gradients agree with central differences", differentiable, claim="differentiable"
)
FIRST = (LIGHT_IMPORT, BUILDS, PORTS, OUTPUTS)
