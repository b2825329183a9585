"""``shapewright completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash:  eval "$(shapewright completion bash)"      in ~/.bashrc
    zsh:   eval "$(shapewright completion zsh)"       in ~/.zshrc
    fish:  shapewright completion fish | source       in ~/.config/fish/config.fish
    """
    from ..cli import group

    completion = get_completion_class(shell)
    assert completion is not None  # the choice above names only shells that click knows
    click.echo(completion(group, {}, "shapewright", "_SHAPEWRIGHT_COMPLETE").source())
