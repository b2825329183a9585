"""Shapewright: 3D shape generation with swappable representations. Names resolve lazily; importing this is light."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "states": [
        "Condition", "Decoded", "Frame", "FunctionField", "Grid", "GridField", "GridLatent", "Latent", "LatentSpec",
        "Layout", "Mesh", "OccupancyGrid", "OccupancyVoxels", "ScalarField", "SparseField", "SparseLatent",
        "SparseTensor", "State", "Support", "SurfaceSamples", "TokenLatent", "Tokens", "VoxelAttributes", "Voxels",
    ],
    "materials": ["Appearance", "Material", "Texture"],
    "interfaces": [
        "Attention", "Component", "Conditioner", "Dataset", "Encoder", "Extractor", "Generator", "MeshPair", "Metric",
        "MetricDefinition", "Renderer", "Representation", "Sample", "Sampler", "Transform", "Velocity",
    ],
    "errors": [
        "ConfigError", "ImageError", "MeshError", "MeshWarning", "MissingExtraError", "OutputExistsError", "PlanError",
        "RegistryError", "ResourceError", "ShapewrightError", "StateError", "UnknownComponentError", "WeightsError",
    ],
    "spec": ["API_VERSION", "Capabilities", "ComponentSpec", "ParityHandler", "Verb"],
    "host": ["Catalog", "PluginStatus", "discover"],
    "plan": ["Plan", "Stage", "check"],
    "run": ["build", "execute"],
    "registry": ["Registry", "load_registry"],
    "mesh_io": ["load_mesh", "save_mesh"],
    "trimesh_meshes": ["from_trimesh", "to_trimesh"],
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = [*_HOME_OF, "__version__"]  # noqa: PLE0604

if TYPE_CHECKING:
    from .errors import *  # noqa: F403
    from .host import *  # noqa: F403
    from .interfaces import *  # noqa: F403
    from .materials import *  # noqa: F403
    from .mesh_io import *  # noqa: F403
    from .plan import *  # noqa: F403
    from .registry import *  # noqa: F403
    from .run import *  # noqa: F403
    from .spec import *  # noqa: F403
    from .states import *  # noqa: F403
    from .trimesh_meshes import *  # noqa: F403


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'shapewright' has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
