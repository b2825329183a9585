"""Compile the Triton kernels of Spatial Sparse Attention for an H100, without one: registers, spills, shared memory.

    python benchmarks/gpu_attention_compile.py [--first]

Published heads and widths in bfloat16. Needs the package triton; ``--first`` takes one configuration of each kernel.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from shapewright_kernels import spatial_sparse_attention_tiles as tiles
from shapewright_kernels import spatial_sparse_attention_top as top
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TYPES = {
    "*bf16": "q k v out grad_out grad_q grad_k grad_v parts a b",
    "*fp32": "lse delta part_k part_v part_lse result",
    "*i32": "entries key_order tile_segment tile_first entry_offsets key_offsets part_segment part_first selected "
    "key_blocks token_offsets",
    "*i64": "part_row part_ends row_starts",
    "fp32": "scale scale_log2",
}
TYPE_OF = {name: kind for kind, names in TYPES.items() for name in names.split()}
WIDTHS = {
    "HEADS": 32, "KV_HEADS": 2, "GROUP": 16, "GROUP_P": 16, "WIDTH": 32, "WIDTH_P": 32, "PRECISION": "ieee",
}  # fmt: skip
BRANCHES: dict[str, dict[str, Any]] = {
    "compressed": {"SLOTS": 1, "PER_HEAD": False, "HAS_ENTRIES": False, "HAS_KEY_ORDER": False},
    "window": {"SLOTS": 1, "PER_HEAD": False, "HAS_ENTRIES": True, "HAS_KEY_ORDER": True},
    "selected": {"SLOTS": 8, "PER_HEAD": True, "HAS_ENTRIES": True, "HAS_KEY_ORDER": False},
}


def assemblers() -> list[Path]:
    """The assemblers that triton brings, the newest first: it may write PTX that the older one cannot read."""
    folder = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    return [path for name in ("ptxas-blackwell", "ptxas") if (path := folder / name).exists()]


def compile_kernel(kernel: Any, constants: dict[str, Any], warps: int, stages: int) -> dict[str, Any]:
    """Registers a thread, bytes spilled, shared memory and kinds of matrix instructions of one kernel on sm_90."""
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    signature, aligned = {}, {}
    for place, name in enumerate(kernel.arg_names):
        signature[name] = "constexpr" if name in constants else TYPE_OF.get(name, "i32")
        if signature[name].startswith("*"):
            aligned[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, aligned)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps, "num_stages": stages})
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "kernel.ptx"
        text.write_text(made.asm["ptx"])
        for assembler in assemblers():
            command = [
                str(assembler),
                "-v",
                "--gpu-name",
                "sm_90a",
                str(text),
                "-o",
                str(Path(folder) / "kernel.cubin"),
            ]
            said = subprocess.run(command, capture_output=True, text=True).stderr
            if found := re.search(r"Used (\d+) registers", said):
                break
        else:
            raise RuntimeError(f"no assembler took the code: {said}")
    spilled = re.search(r"(\d+) bytes spill stores", said)
    return {
        "registers": int(found.group(1)),
        "spilled": int(spilled.group(1)) if spilled else 0,
        "shared": made.metadata.shared,
        "wgmma": made.asm["ptx"].count("wgmma.mma_async"),
        "mma": made.asm["ptx"].count("mma.sync"),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--first", action="store_true", help="one configuration of each kernel")
    count = 1 if parser.parse_args(arguments).first else None
    jobs: list[tuple[str, Any, dict[str, Any], int, int]] = []
    for branch, flags in BRANCHES.items():
        for kernel, tokens in (
            (tiles.forward_tiles, 8), (tiles.query_gradient_tiles, 8), (tiles.key_gradient_tiles, 4),
        ):  # fmt: skip
            for config in kernel.configs[:count]:
                constants = {**WIDTHS, **flags, "TOKENS": tokens, **config.kwargs}
                jobs.append(
                    (f"{kernel.fn.__name__} {branch}", kernel.fn, constants, config.num_warps, config.num_stages)
                )
    for aggregate in (False, True):
        for config in top.top_tiles.configs[:count]:
            constants = {**WIDTHS, "TOKENS": 8, "COUNT": 8, "COUNT_P": 8, "AGGREGATE": aggregate, **config.kwargs}
            name = "top_tiles aggregated" if aggregate else "top_tiles"
            jobs.append((name, top.top_tiles.fn, constants, config.num_warps, config.num_stages))
    jobs.append(("merge_slots", tiles.merge_slots, {**WIDTHS, "SLOTS": 8, "WEIGHTED": True, "ROWS": 32}, 4, 3))
    jobs.append(("sum_parts", tiles.sum_parts, {**WIDTHS, **BRANCHES["selected"], "KEYS": 64}, 4, 3))
    jobs.append(("row_products", tiles.row_products, {**WIDTHS, "ROWS": 64}, 4, 3))
    for name, kernel, constants, warps, stages in jobs:
        figures = compile_kernel(kernel, constants, warps, stages)
        shown = ", ".join(f"{key} {value}" for key, value in figures.items())
        print(f"{name:34s} keys {constants.get('KEYS', '-')!s:4s} warps {warps} stages {stages}: {shown}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
