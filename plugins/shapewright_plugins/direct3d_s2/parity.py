"""Answers to the golden cases of Direct3D-S2's transformers."""

from __future__ import annotations

import torch
from shapewright.parity import Answer, GoldenCase
from shapewright.states import SparseTensor

from .flow import DenseConfig, DenseFlow, SparseConfig, SparseFlow, published


@torch.no_grad()
def dense_dit_case(case: GoldenCase) -> Answer:
    """Component ``dense_dit``."""
    model = DenseFlow(published(DenseConfig, dict(case.config)))
    model.load_state_dict(dict(case.params), strict=True)
    return Answer({"v": model.eval()(case.inputs["x"], case.inputs["t"], case.inputs["cond"])})


@torch.no_grad()
def sparse_dit_case(case: GoldenCase) -> Answer:
    """Component ``sparse_dit``: both compressions, dense and sparse conditions."""
    model = SparseFlow(published(SparseConfig, dict(case.config)))
    model.load_state_dict(dict(case.params), strict=True)
    inputs = case.inputs
    samples = len(inputs["t"])
    x = SparseTensor(inputs["coords"].int(), inputs["x"], case.config["resolution"], samples)
    cond: torch.Tensor | SparseTensor
    if "cond_feats" in inputs:
        cond = SparseTensor(inputs["cond_coords"].int(), inputs["cond_feats"], 1 << 20, samples)
    else:
        cond = inputs["cond"]
    return Answer({"v": model.eval()(x, inputs["t"], cond).feats})
