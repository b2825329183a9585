"""Steps along a rectified flow, with all settings of its schedule: ``sampler/rectified-flow-euler`` and ``-heun``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from shapewright.errors import ConfigError
from shapewright.interfaces import Sampler, Velocity
from torch import Tensor

from .schedule import TRAIN_TIMESTEPS, euler_step, noise_levels


@dataclass(frozen=True)
class Config:
    """``shift``: static shift of the noise levels. ``use_dynamic_shifting``: shift by ``e^mu`` instead. ``sigmas``:
    noise levels of one's own instead of even steps. ``begin_index``: leave out the first levels, for noise that is
    partly removed. ``guidance_interval``: noise levels between which guidance is on."""

    num_train_timesteps: int = TRAIN_TIMESTEPS
    shift: float = 1.0
    use_dynamic_shifting: bool = False
    mu: float | None = None
    sigmas: tuple[float, ...] | None = None
    begin_index: int = 0
    guidance_interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.num_train_timesteps < 1:
            raise ConfigError(f"num_train_timesteps must be at least 1, not {self.num_train_timesteps}")
        if self.use_dynamic_shifting and self.mu is None:
            raise ConfigError("use_dynamic_shifting needs mu")
        if self.begin_index < 0:
            raise ConfigError(f"begin_index must be 0 or more, not {self.begin_index}")
        low, high = self.guidance_interval
        if not 0 <= low <= high <= 1:
            raise ConfigError(f"guidance_interval must be two noise levels 0 <= low <= high <= 1, not {low}, {high}")
        noise_levels(1, shift=self.shift, mu=self.mu, sigmas=self.sigmas)  # refuses what it cannot use


class RectifiedFlowEuler(Sampler[Config]):
    """``x += (sigma' - sigma) v`` from noise at ``sigma = 1`` to data at 0, where ``v = noise - data`` and the model is
    asked at ``t = sigma``.

    Guidance is ``u + g (c - u)`` where ``g`` exceeds 1; otherwise only the conditional branch is asked.

    Source: Liu et al. 2022; the published scheduler of TripoSG, whose velocity has the other sign.
    """

    Config = Config

    def levels(self, steps: int) -> Tensor:
        """Noise levels ``(steps + 1,)`` from the first to 0.

        Raises:
            ConfigError: ``begin_index`` leaves no step.
        """
        config = self.config
        mu = config.mu if config.use_dynamic_shifting else None
        levels = noise_levels(steps, shift=config.shift, mu=mu, sigmas=config.sigmas)
        if config.begin_index > len(levels) - 2:
            raise ConfigError(f"begin_index {config.begin_index} leaves none of {len(levels) - 1} steps")
        return levels[config.begin_index :]

    def integrate(self, model: Velocity, noise: Tensor, *, steps: int, guidance: float) -> Tensor:
        """From ``noise`` to data in the dtype of ``noise``.

        Raises:
            ConfigError: ``steps`` below 1, or a guidance that is not finite.
        """
        if not math.isfinite(guidance):
            raise ConfigError(f"guidance must be finite, not {guidance}")
        x = noise
        for level, following in pairwise(self.levels(steps).tolist()):
            x = self.step(model, x, level, following, guidance)
        return x

    def step(self, model: Velocity, x: Tensor, level: float, following: float, guidance: float) -> Tensor:
        """``x`` at noise ``level`` to the ``following`` one."""
        return euler_step(x, self.guided(model, x, level, guidance), level, following)

    def guided(self, model: Velocity, x: Tensor, level: float, guidance: float) -> Tensor:
        """The velocity under guidance, where that is on."""
        low, high = self.config.guidance_interval
        velocity = model(x, level, conditional=True)
        if guidance > 1 and low <= level <= high:
            null = model(x, level, conditional=False)
            velocity = null + guidance * (velocity - null)
        return velocity


class RectifiedFlowHeun(RectifiedFlowEuler):
    """Two velocities a step, at its start and where Euler's step ends, and their mean: second order, twice the cost.
    The last step, which ends without noise, is Euler's.

    Source: Karras et al. 2022, Elucidating the design space, algorithm 1 without churn.
    """

    def step(self, model: Velocity, x: Tensor, level: float, following: float, guidance: float) -> Tensor:
        velocity = self.guided(model, x, level, guidance)
        if following > 0:
            ahead = self.guided(model, euler_step(x, velocity, level, following), following, guidance)
            velocity = (velocity + ahead) / 2
        return euler_step(x, velocity, level, following)
