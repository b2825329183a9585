"""The command line. Sub-commands are imported when they are called, so that ``--help`` and ``list`` stay light."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from . import __version__
from .errors import ShapewrightError

COMMANDS = {
    "bench": ("Compare representations on meshes: run every combination that fits, print a table.", "bench"),
    "check": ("Check a pipeline's wiring and options without running it.", "check"),
    "completion": ("Print the shell completion script for bash, zsh or fish.", "completion"),
    "convert": ("Take a mesh through a pipeline and back to a mesh file.", "convert"),
    "info": ("Versions, devices, backends and plugins, to paste into a report.", "info"),
    "list": ("List the components that are installed.", "list"),
    "matrix": ("Capabilities, and which representation fits which extractor.", "matrix"),
    "parity": ("Run golden cases against the installed components.", "parity"),
    "plugins": ("List the installed plugins and what is wrong with any of them.", "plugins"),
}

EXIT_FAILED = 1
"""The command ran, and something in it failed (a bench cell, a golden case)."""
EXIT_REFUSED = 2
"""The command could not do what was asked; nothing was changed."""
EXIT_INTERRUPTED = 130


class LazyGroup(click.Group):
    """Knows names and one-line helps; imports ``shapewright.commands.NAME`` when a command is resolved."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            command = import_module(f".commands.{COMMANDS[cmd_name][1]}", __package__).command
            assert isinstance(command, click.Command)
            return command
        from .host import discover

        for offered in discover().hook.register_commands():
            if cmd_name in offered:
                module, _, attribute = offered[cmd_name].partition(":")
                command = getattr(import_module(module), attribute)
                assert isinstance(command, click.Command)
                return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][0]) for name in self.list_commands(ctx)])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="shapewright")
def group() -> None:
    """3D shape generation with swappable representations."""


def _one_line(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def main(arguments: list[str] | None = None) -> None:
    """Entry point: a user's mistake is one message on standard error and a non-zero exit, never a traceback."""
    try:
        code = group.main(args=arguments, prog_name="shapewright", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except ShapewrightError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_REFUSED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away (`shapewright list | head`); there is nobody to tell
        sys.exit(EXIT_FAILED)
    except MemoryError as error:
        click.echo(f"error: out of memory{f' ({error})' if str(error) else ''}; lower the resolution", err=True)
        sys.exit(EXIT_REFUSED)
    except OSError as error:
        click.echo(f"error: {_one_line(error)}", err=True)
        sys.exit(EXIT_REFUSED)
