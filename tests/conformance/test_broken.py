"""Tests of the checks: a component with one defect fails exactly the check that is about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, make_dataclass, replace
from inspect import signature
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conformance.honest import Euler, Give, Halve, Keep, Mixer, Nearest, Painter, Patches, Soup, Splat, Squeeze
from conformance.honest import Tetrahedra as Shapes
from conformance.kit import HONEST, SPECS, catalog_of, failed, verdicts
from shapewright import Capabilities, Decoded, Frame, Mesh, MetricDefinition, TokenLatent, Verb
from shapewright.testing.suites import checks_of

NO_CLAIMS = Capabilities()


@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_component_passes_every_check_that_can_be_tried_here(kind: str) -> None:
    found = verdicts(kind)
    assert list(found) == [check.name for check in checks_of(kind)]
    others = {name: outcome.reason for name, outcome in found.items() if outcome.status != "pass"}
    allowed = {"light_import", "devices"}  # its module has no file; there may be no CUDA device
    unclaimed = {name for name, reason in others.items() if reason.endswith("is not claimed")}
    assert set(others) <= allowed | unclaimed, others


@dataclass(frozen=True)
class Broken:
    """A class with one defect: the check that is to find it, and what else of the spec changes."""

    kind: str
    check: str
    cls: type[Any]
    spec: Mapping[str, Any]


CASES: list[Broken] = []


def breaks(kind: str, check: str, **spec: Any) -> Callable[[type[Any]], type[Any]]:
    def keep(cls: type[Any]) -> type[Any]:
        CASES.append(Broken(kind, check, cls, spec))
        return cls

    return keep


def method(kind: str, check: str, base: type[Any], **methods: Any) -> None:
    """A subclass of an honest component with other methods."""
    spec = methods.pop("spec", {})
    CASES.append(Broken(kind, check, type(f"{base.__name__}Without{check}", (base,), methods), spec))


# --- every kind: options and signatures -------------------------------------------------------------------------------
for _kind, _cls in HONEST.items():
    _verb = {"attention": "forward", "sampler": "integrate", "dataset": "load", "metric": "measure"}.get(
        _kind, next(iter(SPECS[_kind].verbs), "")
    )
    CASES.append(Broken(_kind, "builds", type("NotFrozen", (_cls,), {"Config": make_dataclass("Thawed", [])}), {}))
    CASES.append(Broken(_kind, "ports", type("OtherPorts", (_cls,), {_verb: lambda self, other: other}), {}))


def _noisy(kind: str, base: type[Any], verb: str, change: Callable[[Any], Any]) -> None:
    """Not deterministic: something random gets into the result. Not pure: the global stream is drawn from."""

    def random(self: Any, *arguments: Any, **options: Any) -> Any:
        return change(getattr(base, verb)(self, *arguments, **options))

    def drawing(self: Any, *arguments: Any, **options: Any) -> Any:
        torch.rand(3)
        return getattr(base, verb)(self, *arguments, **options)

    for check, body in (("deterministic", random), ("pure", drawing)):
        body.__signature__ = signature(getattr(base, verb))  # type: ignore[attr-defined]
        method(kind, check, base, **{verb: body})


def _jitter(tensor: torch.Tensor) -> torch.Tensor:
    return tensor + 1e-6 * torch.rand(())


_noisy("representation", Keep, "from_mesh", lambda state: replace(state, vertices=_jitter(state.vertices)))
_noisy("extractor", Give, "extract", lambda mesh: replace(mesh, vertices=_jitter(mesh.vertices)))
_noisy("attention", Mixer, "forward", _jitter)
_noisy("generator", Painter, "sample", lambda latent: TokenLatent(_jitter(latent.values)))
_noisy("encoder", Squeeze, "encode", lambda latent: TokenLatent(_jitter(latent.values)))
_noisy("conditioner", Patches, "encode", lambda condition: replace(condition, tokens=_jitter(condition.tokens)))
_noisy("sampler", Euler, "integrate", _jitter)
_noisy("transform", Halve, "apply", lambda mesh: replace(mesh, vertices=_jitter(mesh.vertices)))
_noisy("renderer", Splat, "render", lambda images: {**images, "depth": _jitter(images["depth"])})
_noisy("metric", Nearest, "measure", lambda values: {k: v + float(torch.rand(())) * 1e-6 for k, v in values.items()})


# --- representations --------------------------------------------------------------------------------------------------
method("representation", "outputs", Keep, from_mesh=lambda self, mesh, *, rng: replace(mesh, frame=mesh.frame))
method("representation", "frames", Keep, from_mesh=lambda self, mesh, *, rng: Soup(mesh.vertices, mesh.faces))


@breaks("representation", "dtype")
class DoubleOnly(Keep):
    def from_mesh(self, mesh: Mesh, *, rng: torch.Generator) -> Soup:
        if mesh.vertices.dtype != torch.float64:
            raise TypeError("wants float64")
        return super().from_mesh(mesh, rng=rng)


@breaks("representation", "degenerate")
class Bounded(Keep):
    def from_mesh(self, mesh: Mesh, *, rng: torch.Generator) -> Soup:
        mesh.vertices.amin(dim=0)  # an IndexError of torch where there is none
        return super().from_mesh(mesh, rng=rng)


def _altered(check: str, alter: Callable[[Mesh], Mesh]) -> None:
    """The same loss in a representation and in an extractor."""
    method("representation", check, Keep,
           from_mesh=lambda self, mesh, *, rng: Keep.from_mesh(self, alter(mesh), rng=rng))  # fmt: skip
    method("extractor", check, Give, extract=lambda self, state: alter(Give.extract(self, state)))


def _flat(mesh: Mesh) -> bool:
    centred = mesh.vertices.detach() - mesh.vertices.detach().mean(dim=0)
    return len(mesh.faces) > 1 and float(torch.linalg.svdvals(centred)[-1]) < 1e-6


def _first_faces(mesh: Mesh, condition: bool, count: int) -> Mesh:
    return replace(mesh, faces=mesh.faces[:count]) if condition else mesh


SPHERE_FACES = 1280
_altered("open_surfaces", lambda mesh: replace(mesh, faces=torch.cat([mesh.faces, mesh.faces.flip(1)]))
         if _flat(mesh) else mesh)  # fmt: skip
_altered("interiors", lambda mesh: _first_faces(mesh, len(mesh.faces) == 2 * SPHERE_FACES, SPHERE_FACES))
_altered("non_manifold", lambda mesh: _first_faces(mesh, len(mesh.faces) == 6, 4))
_altered("oriented", lambda mesh: replace(mesh, faces=mesh.faces.flip(1)))
_altered("sharp_edges", lambda mesh: replace(mesh, vertices=mesh.vertices * 0.97) if len(mesh.vertices) == 8 else mesh)
_altered("pbr", lambda mesh: replace(mesh, attributes={}))
_altered("differentiable", lambda mesh: replace(mesh, vertices=mesh.vertices.detach()))


# --- extractors -------------------------------------------------------------------------------------------------------
method("extractor", "outputs", Give, extract=lambda self, state: Mesh(state.vertices, state.faces + 1, state.frame))
method("extractor", "frames", Give,
       extract=lambda self, state: replace(Give.extract(self, state), frame=Frame(up="z")))  # fmt: skip
method("extractor", "dtype", Give, spec={"capabilities": NO_CLAIMS},
       extract=lambda self, state: Give.extract(self, replace(state, vertices=state.vertices.float())))  # fmt: skip
method("extractor", "degenerate", Give,
       extract=lambda self, state: (state.vertices.amin(dim=0), Give.extract(self, state))[1])  # fmt: skip
method("extractor", "honest_winding", Give,
       extract=lambda self, state: replace(Give.extract(self, state), oriented=False))  # fmt: skip


# --- attention --------------------------------------------------------------------------------------------------------
def _mixer(check: str, change: Callable[[Mixer, torch.Tensor, Any], torch.Tensor], **spec: Any) -> None:
    def forward(
        self: Any, hidden: Any, layout: Any, *, context: Any = None, context_layout: Any = None
    ) -> torch.Tensor:
        plain = Mixer.forward(self, hidden, layout, context=context, context_layout=context_layout)
        return change(plain, hidden, layout)

    method("attention", check, Mixer, forward=forward, spec=spec)


def _places(layout: Any) -> torch.Tensor:
    counts = layout.offsets.diff().tolist()
    return torch.cat([torch.arange(count) for count in counts]).double()


_mixer("outputs", lambda plain, hidden, layout: plain / 0)
_mixer("shape", lambda plain, hidden, layout: plain[:, 1:])
_mixer("dtype", lambda plain, hidden, layout: plain.float(), capabilities=NO_CLAIMS)
_mixer("batching", lambda plain, hidden, layout: plain + 0.1 * (len(layout.offsets) - 2))
_mixer("token_order", lambda plain, hidden, layout: plain + 0.1 * _places(layout).to(plain)[:, None])
_mixer("lengths", lambda plain, hidden, layout: plain if layout.offsets.diff().min() > 0 else hidden.amin(3))
_mixer("differentiable", lambda plain, hidden, layout: plain.detach())


# --- generators -------------------------------------------------------------------------------------------------------
def _painter(check: str, change: Callable[..., Any], **spec: Any) -> None:
    def sample(
        self: Any, condition: Any, *, noise: Any = None, steps: int = 25, guidance: float = 5.0, rng: Any = None
    ) -> Any:
        plain = Painter.sample(self, condition, noise=noise, steps=steps, guidance=guidance, rng=rng)
        return change(plain.values)

    method("generator", check, Painter, sample=sample, spec=spec)


_painter("outputs", lambda values: Soup(values, values))
_painter("dtype", lambda values: TokenLatent(values.float()), capabilities=NO_CLAIMS)
_painter("batching", lambda values: TokenLatent(values + 0.1 * (values.mean(0, keepdim=True) - values)))
_painter("differentiable", lambda values: TokenLatent(values.detach()))
method("generator", "streams", Painter,
       start=lambda self, noise, shape, rng, dtype: noise.values if noise
       else torch.ones(shape, dtype=dtype))  # fmt: skip
method("generator", "streams", Painter,
       start=lambda self, noise, shape, rng, dtype: noise.values if noise
       else torch.randn(1, *shape[1:], generator=rng, dtype=dtype).expand(shape))  # fmt: skip
method("generator", "noise", Painter,
       start=lambda self, noise, shape, rng, dtype: torch.randn(shape, generator=rng, dtype=dtype))  # fmt: skip


@breaks("generator", "condition")
class Deaf(Painter):
    def sample(
        self, condition: Any, *, noise: Any = None, steps: int = 25, guidance: float = 5.0, rng: Any = None
    ) -> Any:
        silent = replace(condition, tokens=condition.tokens * 0 + 1 + 0 * condition.tokens.sum())
        made = super().sample(silent, noise=noise, steps=steps, guidance=guidance, rng=rng)
        return TokenLatent(made.values)


# --- encoders and conditioners ----------------------------------------------------------------------------------------
method("encoder", "outputs", Squeeze, encode=lambda self, source, *, support=None, rng=None: source)
method("encoder", "dtype", Squeeze, spec={"capabilities": NO_CLAIMS},
       encode=lambda self, source, *, support=None, rng=None:
       TokenLatent(Squeeze.encode(self, source).values.float()))  # fmt: skip
method("encoder", "batching", Squeeze,
       encode=lambda self, source, *, support=None, rng=None:
       TokenLatent(Squeeze.encode(self, source).values + 0.1 * (len(source.values) - 1)))  # fmt: skip
method("encoder", "differentiable", Squeeze,
       decode=lambda self, latent, *, guides=(): Decoded(replace(s := Squeeze.decode(self, latent).state,
                                                                 values=s.values.detach())))  # fmt: skip


@breaks(
    "encoder", "decodes_states", capabilities=NO_CLAIMS,
    verbs={"decode": Verb({"latent": "latent.tokens"}, {"mesh": "mesh"})},
)  # fmt: skip
class Meshing(Squeeze):
    def decode(self, latent: TokenLatent, *, guides: Any = ()) -> Any:
        faces = torch.tensor([[0, 1, 2]])
        return Mesh(self.up(latent.values)[0, :, :3], faces)


method("conditioner", "outputs", Patches,
       encode=lambda self, image, *, size=None: replace(c := Patches.encode(self, image),
                                                                tokens=c.tokens[0]))  # fmt: skip
method("conditioner", "images", Patches, in_unit=lambda self, image: image.float())
method("conditioner", "alpha", Patches,
       composed=lambda self, image: image if image.shape[2] == 3 else image[..., :3] * 0.5 + 0.5)  # fmt: skip


# --- samplers ---------------------------------------------------------------------------------------------------------
def _euler(check: str, change: Callable[[torch.Tensor, torch.Tensor], Any]) -> None:
    def integrate(self: Any, model: Any, noise: Any, *, steps: int, guidance: float) -> Any:
        return change(Euler.integrate(self, model, noise, steps=steps, guidance=guidance), noise)

    method("sampler", check, Euler, integrate=integrate)


_euler("outputs", lambda x, noise: x[0])
_euler("dtype", lambda x, noise: x.float())
_euler("straight", lambda x, noise: noise + 0.9 * (x - noise))
method("sampler", "times", Euler, time=lambda self, step, steps: 1000 * (1 - step / steps))


@breaks("sampler", "batching")
class Together(Euler):
    def integrate(self, model: Any, noise: Any, *, steps: int, guidance: float) -> Any:
        def asked(x: torch.Tensor, t: float, *, conditional: bool) -> torch.Tensor:
            return model(x + 0.1 * (x.mean(dim=0, keepdim=True) - x), t, conditional=conditional)

        return super().integrate(asked, noise, steps=steps, guidance=guidance)


@breaks("sampler", "pure")
class InPlace(Euler):
    def integrate(self, model: Any, noise: Any, *, steps: int, guidance: float) -> Any:
        return noise.copy_(super().integrate(model, noise, steps=steps, guidance=guidance))


# --- transforms and renderers -----------------------------------------------------------------------------------------
method("transform", "outputs", Halve, apply=lambda self, mesh: Soup(mesh.vertices, mesh.faces))
method("transform", "differentiable", Halve,
       apply=lambda self, mesh: replace(mesh, vertices=mesh.vertices.detach() * 0.5))  # fmt: skip
method("renderer", "outputs", Splat,
       render=lambda self, mesh, cameras: {k: v / 0 for k, v in Splat.render(self, mesh, cameras).items()})  # fmt: skip
method("renderer", "buffers", Splat,
       render=lambda self, mesh, cameras: {k: v[0] for k, v in Splat.render(self, mesh, cameras).items()})  # fmt: skip
method("renderer", "face_order", Splat,
       render=lambda self, mesh, cameras: {**Splat.render(self, mesh, cameras),
                                           "id": mesh.faces[:1].float().sum().expand(1, 8, 8, 1)
                                           if len(mesh.faces) else torch.zeros(1, 8, 8, 1)})  # fmt: skip
method("renderer", "degenerate", Splat,
       render=lambda self, mesh, cameras: (mesh.faces[0], Splat.render(self, mesh, cameras))[1])  # fmt: skip
# No toy renderer claims gradients that it has: pixels jump. This one claims them.
CASES.append(Broken("renderer", "differentiable", type("Claims", (Splat,), {
    "render": lambda self, mesh, cameras: {k: v.detach() for k, v in Splat.render(self, mesh, cameras).items()}
}), {"capabilities": Capabilities(differentiable=True)}))  # fmt: skip


# --- data sets and metrics --------------------------------------------------------------------------------------------
class Counting(Shapes):
    """Counts what every instance has loaded."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.loaded = 0


@breaks("dataset", "deterministic")
class OrderMatters(Counting):
    def load(self, id: str) -> Any:
        self.loaded += 1
        sample = super().load(id)
        return replace(sample, mesh=replace(sample.mesh, vertices=sample.mesh.vertices * (1 + 1e-3 * self.loaded)))


@breaks("dataset", "stable_ids")
class Reversing(Counting):
    def ids(self) -> Any:
        self.loaded += 1
        return super().ids()[:: -1 if self.loaded == 3 else 1]


method("dataset", "outputs", Shapes, load=lambda self, id: replace(Shapes.load(self, id), id="another"))
method("dataset", "content", Shapes, load=lambda self, id: replace(Shapes.load(self, id), content="the same"))
method("dataset", "unknown", Shapes, load=lambda self, id: Shapes.load(self, id if id in self.sizes else "small"))


def _nearest(check: str, change: Callable[[torch.Tensor, torch.Tensor, float], float], **more: Any) -> None:
    def distance(self: Any, a: torch.Tensor, b: torch.Tensor) -> float:
        return change(a, b, Nearest.distance(self, a, b))

    method("metric", check, Nearest, distance=distance, **more)


_nearest("outputs", lambda a, b, d: float("nan"))
_nearest("itself", lambda a, b, d: d + 0.02)
_nearest("direction", lambda a, b, d: d if d < 0.015 else 0.02 / (1 + 10 * d))
_nearest("order", lambda a, b, d: d + (0.2 * float((a[0] - b[0]).norm()) if len(a) == len(b) > 8 else 0))
_nearest(
    "motion",
    lambda a, b, d: 4 * float((a[:, 0].mean() - b[:, 0].mean()).abs()),
    protocols={"toy-nearest/v1": MetricDefinition("shift along x", False, "box1", symmetric=True)},
)
_nearest("symmetric", lambda a, b, d: float(torch.cdist(a, b).amin(dim=1).mean()))


@breaks("metric", "dtype")
class DoubleMeshes(Nearest):
    def measure(self, pair: Any) -> Any:
        if pair.predicted.vertices.dtype != torch.float64:
            raise TypeError("wants float64")
        return super().measure(pair)


@breaks("metric", "degenerate")
class Unchecked(Nearest):
    def measure(self, pair: Any) -> Any:
        return {"toy-nearest/v1": self.distance(pair.predicted.vertices, pair.reference.vertices)}


# --- the tests, over what was collected above -------------------------------------------------------------------------
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}-{case.check}")
def test_a_defect_is_found_by_exactly_the_check_that_is_about_it(case: Broken) -> None:
    found = verdicts(case.kind, case.cls, **case.spec)
    assert failed(found) == [case.check], {name: o.reason for name, o in found.items() if o.status == "fail"}
    assert found[case.check].reason


def test_every_check_of_every_kind_has_a_component_that_breaks_it() -> None:
    """Light imports and CUDA devices are broken in tests of their own."""
    wanted = {(kind, check.name) for kind in HONEST for check in checks_of(kind)}
    wanted -= {(kind, name) for kind in HONEST for name in ("light_import", "devices")}
    assert {(case.kind, case.check) for case in CASES} == wanted


# --- what cannot be broken in this process ----------------------------------------------------------------------------
def test_a_cuda_result_on_another_device_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be no CUDA device here, so the check is told that there is one; the result stays at home."""
    from shapewright.testing import common
    from shapewright.testing.check import CheckFailure
    from shapewright.testing.subject import Subject

    catalog = catalog_of("transform", type("Home", (Halve,), {
        "apply": lambda self, mesh: Mesh(torch.zeros(3, 3), torch.zeros(1, 3, dtype=torch.int64))
    }))  # fmt: skip
    monkeypatch.setattr(common, "torch", SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True)))
    monkeypatch.setattr(common, "on_device", lambda value, device: value)
    subject = Subject(catalog, catalog.get("transform/toy"), {}, {})
    with pytest.raises(CheckFailure, match="on the CPU though the input was on CUDA"):
        common.devices(subject)
