"""A third-party distribution with every kind that a bench needs, so tiny that only processes take time."""

LIGHT = """
    from shapewright.plugin import ComponentSpec, Verb, hookimpl

    @hookimpl
    def register_components():
        make = {"from_mesh": Verb({"mesh": "mesh"}, {"state": "toy.rounded"})}
        back = {"extract": Verb({"state": "toy"}, {"mesh": "mesh"})}
        return [
            ComponentSpec("representation", "rounded", "toy_heavy:Rounded", make),
            ComponentSpec("extractor", "as-is", "toy_heavy:AsIs", back),
            ComponentSpec("extractor", "trouble", "toy_heavy:Trouble", back),
            ComponentSpec("dataset", "toys", "toy_heavy:Toys"),
            ComponentSpec("metric", "toy-error", "toy_heavy:ToyError"),
        ]
"""

HEAVY = '''
    import os
    import time
    from dataclasses import dataclass

    import torch
    from shapewright import Dataset, Extractor, Frame, Mesh, MeshError, Metric, MetricDefinition, Representation, Sample

    @dataclass(frozen=True)
    class Empty:
        pass

    @dataclass(frozen=True)
    class RoundedState:
        vertices: torch.Tensor
        faces: torch.Tensor
        frame: Frame = Frame()
        tag = "toy.rounded"

    @dataclass(frozen=True)
    class RoundedConfig:
        resolution: int = 8
        seconds: float = 0.0

    class Rounded(Representation):
        """Vertices rounded to a lattice."""

        Config = RoundedConfig

        def from_mesh(self, mesh, *, rng):
            time.sleep(self.config.seconds)
            r = self.config.resolution
            return RoundedState(torch.round(mesh.vertices * r) / r, mesh.faces)

    class AsIs(Extractor):
        Config = Empty

        def extract(self, state):
            if log := os.environ.get("TOY_LOG"):
                with open(log, "a") as stream:
                    stream.write("extracted\\n")
            return Mesh(state.vertices, state.faces)

    @dataclass(frozen=True)
    class TroubleConfig:
        how: str = "raise"

    class Trouble(Extractor):
        Config = TroubleConfig

        def extract(self, state):
            if self.config.how == "die":
                os.kill(os.getpid(), 9)
            if self.config.how == "hang":
                time.sleep(600)
            if self.config.how == "empty":
                return Mesh(state.vertices, state.faces[:0])
            raise RuntimeError("this extractor\\nalways fails")

    class Toys(Dataset):
        Config = Empty

        def ids(self):
            return ["flat", "tall", "unreadable"]

        def load(self, id):
            if id == "unreadable":
                raise MeshError("unreadable: holds no face")
            height = 1.0 if id == "flat" else 3.0
            corners = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1.37, 0], [0.31, 0.2, height]], dtype=torch.float64)
            faces = torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
            return Sample(id, Mesh(corners, faces), frozenset({"closed"}), content=id)

    class ToyError(Metric):
        Config = Empty
        protocols = {
            "toy-error/v1": MetricDefinition("mean distance of equal vertices", False, "box1", failure=0.5),
            "toy-random/v1": MetricDefinition("one draw", False),
            "toy-faces/v1": MetricDefinition("faces", False, group="health"),
        }

        def measure(self, pair):
            error = (pair.predicted.vertices - pair.reference.vertices).norm(dim=1).mean()
            draw = torch.rand(1, generator=pair.rng("draw"))
            return {
                "toy-error/v1": float(error),
                "toy-random/v1": float(draw),
                "toy-faces/v1": float(len(pair.predicted.faces)),
            }
'''
