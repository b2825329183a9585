"""Attention modules and blocks: which tokens meet, what does not matter, and that patterns are interchangeable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapewright import Attention, ConfigError, Generator, Layout, SparseTensor, StateError
from shapewright.nn.attention import AttentionConfig, FullAttention, make_attention
from shapewright.nn.blocks import (
    CrossTransformerBlock,
    ModulatedCrossBlock,
    ModulatedTransformerBlock,
    TransformerBlock,
)
from shapewright.nn.layouts import dense_layout, layout_of, pack, per_token
from shapewright.nn.windows import SerialisedAttention, SerialisedConfig, WindowAttention, WindowConfig
from shapewright.run import build
from torch import Tensor

CHANNELS = 12
WIDTHS: dict[str, Any] = {"channels": CHANNELS, "heads": 2}


def randomised(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every parameter random, so that none is without effect."""
    rng = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=rng).to(parameter) * 0.3
    return module


def voxels(counts: list[int], extent: int = 9, seed: int = 0) -> Layout:
    """Distinct voxels of several samples, in no particular order within each."""
    rng = torch.Generator().manual_seed(seed)
    rows = []
    for sample, count in enumerate(counts):
        codes = torch.randperm(extent**3, generator=rng)[:count]
        xyz = torch.stack([codes // extent**2, codes // extent % extent, codes % extent], dim=1)
        rows.append(torch.cat([torch.full((count, 1), sample), xyz], dim=1))
    coords = torch.cat(rows).int()
    return layout_of(SparseTensor(coords, torch.zeros(len(coords), 0), extent, len(counts)))


def states(layout: Layout, dtype: torch.dtype = torch.float32, channels: int = CHANNELS) -> Tensor:
    rng = torch.Generator().manual_seed(7)
    return torch.randn(int(layout.offsets[-1]), channels, generator=rng, dtype=torch.float64).to(dtype)


def masked_attention(module: Any, hidden: Tensor, allowed: Tensor) -> Tensor:
    """The module's own projections around full attention under a mask ``(T, T)``."""
    q, k, v = module.to_qkv(hidden).reshape(len(hidden), 3, module.config.heads, -1).permute(1, 2, 0, 3)
    mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    return module.to_out(mixed.permute(1, 0, 2).flatten(1))


def sample_of(layout: Layout) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(layout.offsets) - 1), layout.offsets.diff())


PATTERNS: dict[str, Callable[[], Any]] = {
    "full": lambda: FullAttention(AttentionConfig(**WIDTHS)),
    "full-rope": lambda: FullAttention(AttentionConfig(**WIDTHS, rope=True, qk_norm="per-head")),
    "full-shared-kv": lambda: FullAttention(AttentionConfig(**WIDTHS, kv_heads=1, qk_norm="shared")),
    "window": lambda: WindowAttention(WindowConfig(**WIDTHS, window=4, block=1)),
    "window-rope": lambda: WindowAttention(WindowConfig(**WIDTHS, window=[4, 2, 8], rope=True, rope_pairs="halves")),
    "window-split": lambda: WindowAttention(WindowConfig(**WIDTHS, window=4, split_heads=True)),
    "serialised": lambda: SerialisedAttention(SerialisedConfig(**WIDTHS, size=5, block=1)),
}


@settings(deadline=None, max_examples=15)
@given(window=st.integers(1, 6), shift=st.integers(-3, 9), counts=st.lists(st.integers(0, 30), min_size=1, max_size=3))
def test_windows_equal_full_attention_under_a_mask(window: int, shift: int, counts: list[int]) -> None:
    layout = voxels(counts)
    module = randomised(WindowAttention(WindowConfig(**WIDTHS, window=window, shift=shift)))
    hidden = states(layout)
    assert layout.coords is not None
    cells = torch.cat([sample_of(layout)[:, None], torch.div(layout.coords + shift, window, rounding_mode="floor")], 1)
    allowed = (cells[:, None] == cells[None]).all(-1)
    wanted = masked_attention(module, hidden, allowed) if len(hidden) else hidden
    torch.testing.assert_close(module(hidden, layout), wanted, rtol=1e-4, atol=1e-5)


def test_split_heads_are_two_windows_with_the_halves_swapped() -> None:
    layout = voxels([40])
    hidden = states(layout)
    both = randomised(WindowAttention(WindowConfig(**WIDTHS, window=4, split_heads=True)))
    plain, moved = (randomised(WindowAttention(WindowConfig(**WIDTHS, window=4, shift=shift))) for shift in (0, 2))
    half = CHANNELS // 2
    for module in (both, plain, moved):
        module.to_out.weight.data, module.to_out.bias.data = torch.eye(CHANNELS), torch.zeros(CHANNELS)
    wanted = torch.cat([plain(hidden, layout)[:, half:], moved(hidden, layout)[:, :half]], dim=1)
    torch.testing.assert_close(both(hidden, layout), wanted)


@settings(deadline=None, max_examples=10)
@given(size=st.integers(1, 12), shift=st.integers(0, 11), counts=st.lists(st.integers(0, 30), min_size=1, max_size=3))
def test_pieces_of_a_curve_equal_full_attention_under_a_mask(size: int, shift: int, counts: list[int]) -> None:
    layout = voxels(counts)
    shift %= size
    module = randomised(SerialisedAttention(SerialisedConfig(**WIDTHS, size=size, shift=shift, curve="morton")))
    hidden = states(layout)
    assert layout.coords is not None
    x, y, z = layout.coords.long().unbind(1)
    codes = sum(
        ((axis >> bit & 1) << (3 * bit + place)) for bit in range(4) for place, axis in ((2, x), (1, y), (0, z))
    )
    sample = sample_of(layout)
    rank = ((sample[:, None] == sample) & (codes[:, None] > codes)).sum(1)  # type: ignore[index]
    piece = (rank + shift) // size
    allowed = (sample[:, None] == sample) & (piece[:, None] == piece)
    wanted = masked_attention(module, hidden, allowed) if len(hidden) else hidden
    torch.testing.assert_close(module(hidden, layout), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PATTERNS)
def test_order_of_tokens_does_not_matter(name: str) -> None:
    layout = voxels([23, 17])
    module, hidden = randomised(PATTERNS[name]()), states(layout)
    assert layout.coords is not None
    order = torch.cat([torch.randperm(23), 23 + torch.randperm(17)])
    moved = Layout(layout.offsets, layout.coords[order], layout.resolution)
    torch.testing.assert_close(module(hidden[order], moved), module(hidden, layout)[order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PATTERNS)
def test_samples_of_a_batch_are_treated_as_if_alone(name: str) -> None:
    layout = voxels([11, 0, 1, 20])
    module, hidden = randomised(PATTERNS[name]()), states(layout)
    together = module(hidden, layout)
    assert layout.coords is not None
    assert together.shape == hidden.shape
    for start, stop in ((0, 11), (11, 12), (12, 32)):
        alone = Layout(torch.tensor([0, stop - start]), layout.coords[start:stop])
        torch.testing.assert_close(module(hidden[start:stop], alone), together[start:stop], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PATTERNS)
def test_an_empty_batch_and_one_token_work_with_gradients(name: str) -> None:
    module = randomised(PATTERNS[name]())
    for counts in ([0], [0, 0], [1], [0, 1]):
        layout = voxels(counts)
        hidden = states(layout).requires_grad_()
        result = module(hidden, layout)
        assert result.shape == hidden.shape
        result.sum().backward()
        assert hidden.grad is not None


@pytest.mark.parametrize("name", PATTERNS)
def test_gradcheck_of_modules_in_float64(name: str) -> None:
    layout = voxels([5, 2], extent=5)
    module, hidden = randomised(PATTERNS[name]()).double(), states(layout, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: module(x, layout), (hidden,), fast_mode=True)


@pytest.mark.parametrize("name", PATTERNS)
def test_bfloat16_runs_on_the_processor(name: str) -> None:
    layout = voxels([30])
    module, hidden = randomised(PATTERNS[name]()), states(layout)
    wanted = module(hidden, layout)
    found = module.bfloat16()(hidden.bfloat16(), layout)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=0.1, atol=0.1)


def test_rotary_codes_see_only_differences_of_coordinates() -> None:
    module = randomised(FullAttention(AttentionConfig(channels=24, heads=2, rope=True)))
    layout = voxels([25])
    hidden = states(layout, channels=24)
    assert layout.coords is not None
    moved = Layout(layout.offsets, layout.coords + torch.tensor([5, 11, 3], dtype=torch.int32))
    stretched = Layout(layout.offsets, layout.coords * 2)
    torch.testing.assert_close(module(hidden, moved), module(hidden, layout), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(module(hidden, stretched), module(hidden, layout), atol=1e-3)


@pytest.mark.parametrize(
    ("module", "named"),
    [
        (lambda block, **shift: WindowAttention(WindowConfig(**WIDTHS, window=4, block=block, **shift)), 2),
        (lambda block, **shift: SerialisedAttention(SerialisedConfig(**WIDTHS, size=6, block=block, **shift)), 3),
    ],
    ids=["window", "serialised"],
)
def test_odd_blocks_shift_by_half_a_group_and_even_ones_do_not(module: Any, named: int) -> None:
    layout = voxels([40])
    hidden = states(layout)
    for block, shift in ((0, 0), (1, named), (2, 0), (3, named)):
        usual, told = module(block), module(block, shift=shift)
        told.load_state_dict(usual.state_dict())
        assert torch.equal(usual(hidden, layout), told(hidden, layout))
        other = module(block, shift=named - shift)
        other.load_state_dict(usual.state_dict())
        assert not torch.allclose(usual(hidden, layout), other(hidden, layout), atol=1e-4)


def test_layers_share_what_follows_from_a_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    from shapewright.nn import windows

    calls = []
    partition = windows.window_partition
    monkeypatch.setattr(windows, "window_partition", lambda *a, **k: calls.append(1) or partition(*a, **k))
    layout = voxels([20])
    hidden = states(layout)
    for block in range(6):
        WindowAttention(WindowConfig(**WIDTHS, window=4, block=block))(hidden, layout)
    assert len(calls) == 2  # even and odd blocks
    WindowAttention(WindowConfig(**WIDTHS, window=4))(hidden, voxels([20]))
    assert len(calls) == 3


def test_a_changed_layout_forgets_what_followed_from_the_old_one() -> None:
    layout = voxels([20])
    hidden, module = states(layout), randomised(WindowAttention(WindowConfig(**WIDTHS, window=4)))
    assert layout.coords is not None
    module(hidden, layout)
    moved = replace(layout, coords=layout.coords + 2)
    fresh = Layout(layout.offsets, layout.coords + 2, layout.resolution)
    assert torch.equal(module(hidden, moved), module(hidden, fresh))
    assert not torch.equal(module(hidden, moved), module(hidden, layout))


def test_two_contexts_of_one_layout_are_kept_apart() -> None:
    module = randomised(FullAttention(AttentionConfig(**WIDTHS, context_channels=5)))
    layout = dense_layout(2, 3)
    hidden = states(layout)
    for lengths in ((4, 2), (1, 6), (0, 3), (4, 2)):
        context, context_layout = pack([torch.randn(length, 5) for length in lengths])
        found = module(hidden, layout, context=context, context_layout=context_layout)
        for sample, (rows, there) in enumerate(zip(hidden.split(3), context.split(lengths), strict=True)):
            alone = module(rows, dense_layout(1, 3), context=there, context_layout=dense_layout(1, lengths[sample]))
            torch.testing.assert_close(found[3 * sample : 3 * sample + 3], alone)
    assert len(layout._memo) == 2  # its own pairs and the latest context's: sampling for long does not pile up


# --- swapping by name -------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ToyConfig:
    attention: Any = field(default_factory=lambda: {"use": "attention/full"})
    depth: int = 2


class ToyGenerator(Generator[ToyConfig]):
    """Two blocks whose attention a registry names."""

    Config = ToyConfig

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.blocks = torch.nn.ModuleList(
            TransformerBlock(CHANNELS, make_attention(config.attention, **WIDTHS, qk_norm="per-head", block=block))
            for block in range(config.depth)
        )

    def sample(self, condition: Any, **options: Any) -> Any:
        raise NotImplementedError

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        for block in self.blocks:
            hidden = block(hidden, layout)
        return hidden


def test_a_generator_takes_its_attention_by_name(catalog: Any) -> None:
    stand_in = SimpleNamespace(load=lambda key: ToyGenerator if key == "generator/toy" else catalog.load(key))
    layout = voxels([30])
    hidden, results = states(layout), []
    for entry in (
        {"use": "attention/full"},
        {"use": "attention/window", "with": {"window": 4}},
        {"use": "attention/serialized", "with": {"size": 8, "curve": "morton"}},
    ):
        model = build(stand_in, "generator/toy", {"attention": entry})  # type: ignore[arg-type]
        names = set(model.state_dict())
        assert "blocks.1.attn.to_qkv.weight" in names
        assert "blocks.0.attn.q_rms_norm.gamma" in names
        results.append(randomised(model)(hidden, layout))
        assert isinstance(model.blocks[1].attn, Attention)
        assert model.blocks[1].attn.config.block == 1
    assert not torch.allclose(results[0], results[1], atol=1e-3)
    assert not torch.allclose(results[1], results[2], atol=1e-3)
    with pytest.raises(ConfigError, match="windov"):
        build(stand_in, "generator/toy", {"attention": {"use": "attention/window", "with": {"windov": 4}}})  # type: ignore[arg-type]


def test_attentions_are_built_from_classes_and_instances() -> None:
    made = make_attention(WindowAttention, **WIDTHS, block=3)
    assert made.config.shifts == (4, 4, 4)
    assert make_attention(made, **WIDTHS) is made
    with pytest.raises(ConfigError, match="attention must be"):
        make_attention("window", **WIDTHS)


def test_an_option_that_an_attention_lacks_is_refused_unless_it_is_off() -> None:
    @dataclass(frozen=True)
    class BareConfig:
        channels: int = 8
        heads: int = 2

    class Bare(Attention[BareConfig]):
        Config = BareConfig

        def forward(self, hidden: Tensor, layout: Layout, **context: Any) -> Tensor:
            return hidden

    assert make_attention(Bare, **WIDTHS, qk_norm="none", rope=False, block=4).config.channels == CHANNELS
    with pytest.raises(ConfigError, match="no option 'rope'"):
        make_attention(Bare, **WIDTHS, rope=True)


# --- blocks -----------------------------------------------------------------------------------------------------------
def blocks(use_checkpoint: bool = False) -> dict[str, tuple[torch.nn.Module, Callable[..., Tensor]]]:
    layout, context_layout = voxels([7, 9]), dense_layout(2, 4)
    context = torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
    time = torch.randn(2, CHANNELS, generator=torch.Generator().manual_seed(2))
    shared_mod = torch.randn(2, 6 * CHANNELS, generator=torch.Generator().manual_seed(3))
    cross = AttentionConfig(**WIDTHS, context_channels=5)
    options: dict[str, Any] = {"mlp_ratio": 1.5, "use_checkpoint": use_checkpoint}

    def own() -> FullAttention:
        return FullAttention(AttentionConfig(**WIDTHS))

    plain = TransformerBlock(CHANNELS, own(), affine=True, **options)
    crossed = CrossTransformerBlock(CHANNELS, own(), FullAttention(cross), **options)
    modulated = ModulatedTransformerBlock(CHANNELS, own(), **options)
    full = ModulatedCrossBlock(CHANNELS, own(), FullAttention(cross), share_mod=True, **options)
    return {
        "plain": (plain, lambda x: plain(x, layout)),
        "crossed": (crossed, lambda x: crossed(x, layout, context, context_layout)),
        "modulated": (modulated, lambda x: modulated(x, time, layout)),
        "modulated-crossed": (full, lambda x: full(x, shared_mod, layout, context, context_layout)),
    }


@pytest.mark.parametrize("name", ["plain", "crossed", "modulated", "modulated-crossed"])
def test_checkpointing_changes_no_value_and_no_gradient(name: str) -> None:
    found = []
    for use_checkpoint in (False, True):
        module, run = blocks(use_checkpoint)[name]
        randomised(module)
        hidden = states(voxels([7, 9])).requires_grad_()
        result = run(hidden)
        result.square().sum().backward()
        found.append([result, hidden.grad, *(parameter.grad for parameter in module.parameters())])
        assert all(parameter.grad is not None for parameter in module.parameters())
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_a_modulated_block_is_its_formula() -> None:
    module, run = blocks()["modulated"]
    randomised(module)
    layout, hidden = voxels([7, 9]), states(voxels([7, 9]))
    time = torch.randn(2, CHANNELS, generator=torch.Generator().manual_seed(2))
    values = torch.nn.functional.linear(torch.nn.functional.silu(time), *module.adaLN_modulation[1].parameters())  # type: ignore[index, union-attr, operator]
    rows = values[sample_of(layout)].chunk(6, dim=1)

    def norm(x: Tensor) -> Tensor:
        return torch.nn.functional.layer_norm(x, (CHANNELS,), eps=1e-6)

    wanted = hidden + rows[2] * module.attn(norm(hidden) * (1 + rows[1]) + rows[0], layout)  # type: ignore[operator]
    wanted = wanted + rows[5] * module.mlp(norm(wanted) * (1 + rows[4]) + rows[3])  # type: ignore[operator]
    torch.testing.assert_close(run(hidden), wanted)


def test_as_many_samples_as_tokens_are_no_ambiguity() -> None:
    """Values of samples are spread by the layout, never by what shape would fit."""
    values = torch.arange(3.0)[:, None]
    assert per_token(values, dense_layout(3, 1)).flatten().tolist() == [0, 1, 2]
    assert per_token(values, Layout(torch.tensor([0, 0, 2, 3]))).flatten().tolist() == [1, 1, 2]
    with pytest.raises(StateError, match="one row for each of 3 samples"):
        per_token(torch.zeros(2, 1), dense_layout(3, 1))


# --- bad input --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("build_config", "message"),
    [
        (lambda: AttentionConfig(channels=10, heads=4), "channels 10 must be divisible by heads 4"),
        (lambda: AttentionConfig(channels=8, heads=4, kv_heads=3), "heads 4 must be divisible by kv_heads 3"),
        (lambda: AttentionConfig(heads=0), "heads must be at least 1"),
        (lambda: AttentionConfig(qk_norm="rms"), "qk_norm must be one of"),
        (lambda: AttentionConfig(channels=8, heads=2, rope=True), "rope needs an even head width"),
        (lambda: AttentionConfig(rope=True, context_channels=4), "rope must be off"),
        (lambda: AttentionConfig(backend="cuda"), "backend must be one of"),
        (lambda: WindowConfig(window=0), "window must be at least 1"),
        (lambda: WindowConfig(window=[8, 8]), "window must be a whole number"),
        (lambda: WindowConfig(shift="half"), "shift must be a whole number"),
        (lambda: WindowConfig(context_channels=4), "context_channels must be left out"),
        (lambda: WindowConfig(channels=3, heads=1, split_heads=True), "split_heads needs"),
        (lambda: SerialisedConfig(size=0), "size must be at least 1"),
        (lambda: SerialisedConfig(size=4, shift=4), "shift must be"),
        (lambda: SerialisedConfig(curve="peano"), "curve must be one of"),
        (lambda: SerialisedConfig(axes=[0, 1, 1]), "axes must hold"),
    ],
)
def test_options_out_of_range_are_named(build_config: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_config()
    assert "\n" not in str(caught.value)


def test_states_that_do_not_fit_are_named() -> None:
    module, layout = FullAttention(AttentionConfig(**WIDTHS)), dense_layout(1, 3)
    hidden = torch.zeros(3, CHANNELS)
    for arguments, message in (
        ((torch.zeros(3, 5), layout), "hidden must be"),
        ((torch.zeros(4, CHANNELS), layout), "hidden has 4 rows but its layout ends at 3"),
        ((hidden, Layout(torch.tensor([0, 2, 1, 3]))), "layout.offsets must ascend"),
        ((hidden, Layout(torch.tensor([0.0, 3.0]))), "layout.offsets must be int32"),
        ((hidden, Layout(torch.tensor([0, 3]), torch.zeros(2, 3))), "2 coords"),
    ):
        with pytest.raises(StateError, match=message):
            module(*arguments)
    with pytest.raises(StateError, match="no context"):
        module(hidden, layout, context=hidden, context_layout=layout)
    with pytest.raises(StateError, match="no coords"):
        WindowAttention(WindowConfig(**WIDTHS))(hidden, layout)
    cross = FullAttention(AttentionConfig(**WIDTHS, context_channels=4))
    with pytest.raises(StateError, match="wants context"):
        cross(hidden, layout)
    with pytest.raises(StateError, match="context_layout has 2 samples"):
        cross(hidden, layout, context=torch.zeros(2, 4), context_layout=dense_layout(2, 1))
    with pytest.raises(StateError, match="sorted by batch"):
        layout_of(SparseTensor(torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0]]).int(), torch.zeros(2, 1), 4, 2))
    with pytest.raises(StateError, match="batch_size is 1"):
        layout_of(SparseTensor(torch.tensor([[1, 0, 0, 0]]).int(), torch.zeros(1, 1), 4))


def test_mod_of_another_width_is_named() -> None:
    module, _ = blocks()["modulated"]
    with pytest.raises(StateError, match="mod is the embedding of time"):
        module(states(voxels([7, 9])), torch.zeros(2, 6 * CHANNELS), voxels([7, 9]))


def test_blocks_compile_into_one_graph_where_the_layout_is_known() -> None:
    layout, hidden = voxels([30]), states(voxels([30]))
    block = randomised(TransformerBlock(CHANNELS, WindowAttention(WindowConfig(**WIDTHS, window=4, rope=True))))
    wanted = block(hidden, layout)  # the layout now holds its windows and phases
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(hidden, layout), wanted)


def test_blocks_with_a_context_compile_into_one_graph() -> None:
    block, run = blocks()["modulated-crossed"]
    hidden = states(voxels([7, 9]))
    wanted = run(randomised(block) and hidden)
    block.compile(backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(run(hidden), wanted)
