"""Answers to the golden cases of TRELLIS.2's flow transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from shapewright.nn.flow_transformer import FlowTransformer, FlowTransformerConfig
from shapewright.parity import Answer, GoldenCase
from shapewright.states import SparseTensor
from torch import Tensor

from .flow import LatentFlow, StructureFlow


def flow_config(options: Mapping[str, Any]) -> FlowTransformerConfig:
    """From the published constructor arguments; what only concerns their storage (``dtype``) is left out."""
    known = {field.name for field in fields(FlowTransformerConfig)} - {"attention"}
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }
    return FlowTransformerConfig(**{name: value for name, value in given.items() if name in known})


def _loaded(model: FlowTransformer, case: GoldenCase) -> FlowTransformer:
    model.load_state_dict(dict(case.params), strict=True)
    return model.eval()


def _condition(case: GoldenCase) -> Tensor | list[Tensor]:
    if "cond" in case.inputs:
        return case.inputs["cond"]
    return [case.inputs[f"cond{i}"] for i in range(sum(name[4:].isdigit() for name in case.inputs))]


@torch.no_grad()
def structure_flow_case(case: GoldenCase) -> Answer:
    """Component ``SparseStructureFlowModel``."""
    model = _loaded(StructureFlow(flow_config(case.config)), case)
    return Answer({"y": model(case.inputs["x"], case.inputs["t"], _condition(case))})


@torch.no_grad()
def latent_flow_case(case: GoldenCase) -> Answer:
    """Component ``SLatFlowModel``: shapes, or textures with the shape latent beside the noise."""
    model = _loaded(LatentFlow(flow_config(case.config)), case)
    coords, t = case.inputs["coords"].int(), case.inputs["t"]
    x = SparseTensor(coords, case.inputs["feats"], int(coords[:, 1:].max()) + 1, len(t))
    concat = x.replace(case.inputs["concat_cond"]) if "concat_cond" in case.inputs else None
    return Answer({"y": model(x, t, _condition(case), concat=concat).feats})
