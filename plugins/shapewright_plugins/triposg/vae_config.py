"""Options of ``encoder/triposg-vae``; names and values of the published configuration where it has them."""

from __future__ import annotations

from dataclasses import dataclass

from shapewright.errors import ConfigError

POSTERIORS = ("sample", "mode")
SIGNS = ("auto", "negative-inside", "positive-inside")
VALUES = ("logits", "distance")


@dataclass(frozen=True)
class Config:
    """Published sizes by default."""

    in_channels: int = 3
    latent_channels: int = 64
    num_attention_heads: int = 8
    width_encoder: int = 512
    width_decoder: int = 1024
    num_layers_encoder: int = 8
    num_layers_decoder: int = 16
    embedding_type: str = "frequency"
    embed_frequency: int = 8
    embed_include_pi: bool = False
    tokens: int = 2048
    """Latent tokens of ``encode``; any number works with the same weights (published: 512, 2048, 4096)."""
    posterior: str = "sample"
    """``sample`` draws from the encoder's Gaussian, ``mode`` takes its mean."""
    bounds: float = 1.005
    """The decoded field lives in the cube of this half size."""
    sign: str = "auto"
    """Which values are inside. ``auto`` takes the sign that most of the boundary of the box has as outside."""
    values: str = "logits"
    """What the decoded field answers: ``logits`` as the network gives them, steep and unbounded, or ``distance``:
    ``truncation (2 sigmoid - 1)`` of them."""
    truncation: float = 0.01
    query_chunk: int = 65536
    """Query points a pass of the decoder's last block; exact for any number."""
    topk_keys: bool = False
    """Each chunk of query points attends only to the keys that are most like it: the published flash decoder's option,
    an approximation."""

    def __post_init__(self) -> None:
        for name in (
            *("latent_channels", "num_attention_heads", "width_encoder", "width_decoder", "num_layers_encoder"),
            *("num_layers_decoder", "tokens", "query_chunk"),
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("width_encoder", "width_decoder"):
            if getattr(self, name) % self.num_attention_heads:
                raise ConfigError(
                    f"{name} ({getattr(self, name)}) must be divisible by num_attention_heads "
                    f"({self.num_attention_heads})"
                )
        if self.in_channels != 3:
            raise ConfigError(f"in_channels must be 3, the coordinates of a point, not {self.in_channels}")
        if self.embedding_type != "frequency":
            raise ConfigError(f"embedding_type must be 'frequency', not {self.embedding_type!r}")
        if self.embed_frequency < 0:
            raise ConfigError(f"embed_frequency must be 0 or more, not {self.embed_frequency}")
        for name, known in (("posterior", POSTERIORS), ("sign", SIGNS), ("values", VALUES)):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        for name in ("bounds", "truncation"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be positive, not {getattr(self, name)}")

    @property
    def point_channels(self) -> int:
        """Width of an embedded point."""
        return 3 + 6 * self.embed_frequency
