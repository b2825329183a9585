"""``metric/rendered-normals`` and ``metric/rendered-materials``: pictures of both meshes, compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from shapewright.errors import ConfigError
from shapewright.interfaces import MeshPair, Metric, MetricDefinition

from .perceptual import PerceptualDistance, distance, require_lpips
from .pictures import SIZE, VIEWS, Pictures, pictures
from .quality import ratio, similarity
from .surface_samples import channels

_PLANES = {
    "base_color": ("rendered-base-color", "base colour without light, over grey 0.5"),
    "metallic": ("rendered-metallic", "metallic, over grey 0.5"),
    "roughness": ("rendered-roughness", "roughness, over grey 0.5"),
    "alpha": ("rendered-alpha", "alpha, over 0"),
    "color": ("rendered-shaded", "shaded colours (renderer/raster), over grey 0.5"),
}
_NORMALS = "face normals in world space turned to the viewer, (n + 1) / 2, over grey 0.5"
_WHOLE = ("base_color", "color")
"""Pictures that a viewer would look at; SSIM and LPIPS are of these."""


@dataclass(frozen=True)
class Config:
    """``size``: pixels along a picture; another number than 512 shows in the ids (``rendered-normal-psnr/v1@256px``).
    ``lpips``: also the perceptual distance LPIPS, which needs the extra of that name and its weights on the disk."""

    size: int = SIZE
    lpips: bool = False

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 4096:
            raise ConfigError(f"size lies between 16 and 4096, not {self.size}")
        if self.lpips:
            require_lpips()


class RenderedNormals(Metric[Config]):
    """PSNR and SSIM of pictures of normals: what bumps, ripples and rounded edges cost to the eye."""

    Config = Config
    protocols: ClassVar[Mapping[str, MetricDefinition]] = {
        "rendered-normal-psnr/v1": ratio(f"PSNR of pictures of {_NORMALS}; {VIEWS}", symmetric=True),
        "rendered-normal-ssim/v1": similarity(f"mean SSIM of pictures of {_NORMALS}; {VIEWS}"),
        "rendered-normal-lpips/v1": distance(f"mean LPIPS of pictures of {_NORMALS}; whole pictures; option lpips"),
    }

    @cached_property
    def _lpips(self) -> PerceptualDistance | None:
        return PerceptualDistance() if self.config.lpips else None

    def measure(self, pair: MeshPair) -> Mapping[str, float]:
        """Nothing where no mesh is seen."""
        found = pictures(pair, materials=False, size=self.config.size)
        if found is None:
            return {}
        values = {"rendered-normal-psnr": found.psnr("normal"), "rendered-normal-ssim": found.similarity("normal")}
        if self._lpips is not None:
            values["rendered-normal-lpips"] = self._lpips(found.planes["normal"])
        return _versioned(values, self.config.size)


class RenderedMaterials(Metric[Config]):
    """PSNR of pictures of each material channel, and PSNR and SSIM of what a viewer sees.

    Where either mesh has no appearance there are no figures; channels that one of them lacks have none.
    """

    Config = Config
    protocols: ClassVar[Mapping[str, MetricDefinition]] = {
        **{
            f"{name}-psnr/v1": ratio(f"PSNR of pictures of {text}; {VIEWS}", symmetric=True)
            for name, text in _PLANES.values()
        },
        **{
            f"{name}-ssim/v1": similarity(f"mean SSIM of pictures of {text}; {VIEWS}")
            for name, text in map(_PLANES.__getitem__, _WHOLE)
        },
        **{
            f"{name}-lpips/v1": distance(f"mean LPIPS of pictures of {text}; whole pictures; option lpips")
            for name, text in map(_PLANES.__getitem__, _WHOLE)
        },
    }

    @cached_property
    def _lpips(self) -> PerceptualDistance | None:
        return PerceptualDistance() if self.config.lpips else None

    def measure(self, pair: MeshPair) -> Mapping[str, float]:
        """Figures of the channels that both meshes have, and of shaded colours where base colour is one of them."""
        both = channels(pair.reference) & channels(pair.predicted)
        found = pictures(pair, materials=True, size=self.config.size) if both else None
        if found is None:
            return {}
        shown = [plane for plane in _PLANES if plane in both or (plane == "color" and "base_color" in both)]
        values = {f"{_PLANES[plane][0]}-psnr": found.psnr(plane) for plane in shown}
        for plane in _WHOLE:
            if plane in shown:
                values |= self._as_seen(found, plane)
        return _versioned(values, self.config.size)

    def _as_seen(self, found: Pictures, plane: str) -> dict[str, float]:
        name = _PLANES[plane][0]
        values = {f"{name}-ssim": found.similarity(plane)}
        if self._lpips is not None:
            values[f"{name}-lpips"] = self._lpips(found.planes[plane])
        return values


def _versioned(values: Mapping[str, float], size: int) -> dict[str, float]:
    mark = "" if size == SIZE else f"@{size}px"
    return {f"{name}/v1{mark}": value for name, value in values.items()}
