"""``shapewright convert-weights``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("convert-weights")
@click.argument("source", type=click.Path(readable=False, path_type=Path))
@click.argument("target", type=click.Path(readable=False, path_type=Path))
@click.option("--key", default="", metavar="PATH", help="Where the state dict lies in the file, e.g. model.ema.")
@click.option("--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), help="Store floats as this.")
@click.option("--overwrite", is_flag=True, help="Replace TARGET if it exists.")
def command(source: Path, target: Path, key: str, dtype: str | None, overwrite: bool) -> None:
    """Make the safetensors file TARGET of the checkpoint SOURCE (a pickle) without running what is in it."""
    import torch

    from ..weights.convert import convert
    from ..weights.sizes import human_bytes

    state = convert(source, target, key=key, dtype=getattr(torch, dtype) if dtype else None, overwrite=overwrite)
    click.echo(f"{target}: {len(state)} tensors, {human_bytes(target.stat().st_size)}")
