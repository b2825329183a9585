"""Feed-forward layers: the dense one, and the mixture of experts of the large model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from shapewright.errors import ConfigError
from torch import Tensor, nn


class Expand(nn.Module):
    """Linear, then the exact GELU; key ``proj``."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(self.proj(x))


class FeedForward(nn.Module):
    """``Linear(C, ratio C)``, exact GELU, ``Linear(ratio C, C)``; keys ``net.0.proj``, ``net.2``."""

    def __init__(self, channels: int, ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(channels * ratio)
        self.net = nn.Sequential(Expand(channels, hidden), nn.Identity(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.net(x)
        return result


@dataclass(frozen=True)
class MoEConfig:
    """``experts``: number of experts. ``top_k``: how many a token is sent to. ``shared``: one more network that sees
    all tokens. ``norm_topk_prob``: weights of the chosen experts are divided by their sum."""

    experts: int = 8
    top_k: int = 2
    shared: bool = True
    norm_topk_prob: bool = False

    def __post_init__(self) -> None:
        if self.experts < 1:
            raise ConfigError(f"experts must be at least 1, not {self.experts}")
        if not 1 <= self.top_k <= self.experts:
            raise ConfigError(f"experts_per_token must lie in 1..{self.experts} (the experts), not be {self.top_k}")


class Routing(NamedTuple):
    """Where tokens go: ``probabilities`` ``(T, E)``, and the chosen ``experts`` and their ``weights`` ``(T, k)``."""

    probabilities: Tensor
    experts: Tensor
    weights: Tensor


class MixtureOfExperts(nn.Module):
    """Each token goes to its ``top_k`` experts; their answers are added by the router's probabilities, and to that of a
    network shared by all tokens. No token is dropped.

    After a forward pass in training, ``routing`` holds what :func:`balance` needs. Keys ``gate.weight``,
    ``experts.{e}.net.*``, ``shared.net.*``.

    Source: TripoSG section 3.2 with the defaults of DiT-MoE, which it follows: softmax over all experts, then top k.
    """

    def __init__(self, channels: int, config: MoEConfig, ratio: float = 4.0) -> None:
        super().__init__()
        self.moe = config
        self.gate = nn.Linear(channels, config.experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(channels, ratio) for _ in range(config.experts))
        self.shared = FeedForward(channels, ratio) if config.shared else None
        self.routing: Routing | None = None

    def route(self, tokens: Tensor) -> Routing:
        """``(T, C)`` tokens; probabilities in float32 at least."""
        wide = torch.promote_types(tokens.dtype, torch.float32)
        probabilities = torch.softmax(self.gate(tokens).to(wide), dim=-1)
        weights, experts = probabilities.topk(self.moe.top_k, dim=-1)
        if self.moe.norm_topk_prob:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return Routing(probabilities, experts, weights)

    def routed(self, tokens: Tensor, routing: Routing) -> Tensor:
        """Weighted answers of the chosen experts, ``(T, C)``."""
        # Tokens in the order of their experts: each expert works on one contiguous slice.
        order = torch.argsort(routing.experts.flatten(), stable=True)
        counts = torch.bincount(routing.experts.flatten(), minlength=self.moe.experts).tolist()
        rows = order // self.moe.top_k
        slices = torch.split(tokens[rows], counts)
        answers = torch.cat([expert(part) for expert, part in zip(self.experts, slices, strict=True)])
        weighted = answers * routing.weights.flatten()[order, None].to(answers.dtype)
        return torch.zeros_like(tokens).index_add(0, rows, weighted)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, -2)
        routing = self.route(tokens)
        self.routing = routing if self.training else None
        result = self.routed(tokens, routing).view_as(x)
        return result if self.shared is None else self.shared(x) + result


class Balance(NamedTuple):
    """How evenly tokens are spread: ``counts`` and ``share`` ``(E,)`` of what was sent, 1 where even; ``mean`` ``(E,)``
    probabilities; ``loss`` their product summed, at least 1 where even."""

    counts: Tensor
    share: Tensor
    mean: Tensor
    loss: Tensor


def balance(routing: Routing) -> Balance:
    """The balance term ``sum_e f_e P_e`` with ``f_e = E count_e / (T k)``; multiply by 0.01 in training."""
    experts = routing.probabilities.shape[1]
    counts = torch.bincount(routing.experts.flatten(), minlength=experts)
    share = counts * (experts / max(routing.experts.numel(), 1))
    mean = routing.probabilities.mean(dim=0)
    return Balance(counts, share.to(mean.dtype), mean, (share * mean).sum())


def balance_loss(module: nn.Module, weight: float = 0.01) -> Tensor:
    """``weight`` times the balance terms of all mixtures inside ``module``, of their last forward pass in training.

    Raises:
        ConfigError: there is no mixture, or none has run in training mode.
    """
    routings = [part.routing for part in module.modules() if isinstance(part, MixtureOfExperts) and part.routing]
    if not routings:
        raise ConfigError("no mixture of experts has run in training mode; set moe_blocks and call train()")
    return weight * torch.stack([balance(routing).loss for routing in routings]).sum()


def upcycle(mixture: MixtureOfExperts, dense: FeedForward, rng: torch.Generator) -> None:
    """Start a mixture from a trained dense layer so that its output stays the same.

    Experts and the shared network get the dense weights; with a shared network its last layer is zeroed, and the router
    is drawn from N(0, 0.02). Exact with ``norm_topk_prob``, where the weights of the chosen experts add to 1.
    """
    with torch.no_grad():
        for part in (*mixture.experts, *([] if mixture.shared is None else [mixture.shared])):
            part.load_state_dict(dense.state_dict())
        if mixture.shared is not None:
            for parameter in mixture.shared.net[2].parameters():
                parameter.zero_()
        mixture.gate.weight.normal_(0.0, 0.02, generator=rng)
