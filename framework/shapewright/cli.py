"""The command line. Sub-commands are imported when they are called, so that ``--help`` and ``list`` stay light."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from . import __version__
from .errors import ShapewrightError

COMMANDS = {
    "bench": ("Compare representations on meshes: run every combination that fits, print a table.", "bench"),
    "check": ("Check a pipeline's wiring and options without running it.", "check"),
    "completion": ("Print the shell completion script for bash, zsh or fish.", "completion"),
    "conform": ("Check that components keep their contract and every capability they claim.", "conform"),
    "convert": ("Take a mesh through a pipeline and back to a mesh file.", "convert"),
    "convert-weights": ("Make a safetensors file of a checkpoint that is a pickle.", "convert_weights"),
    "info": ("Versions, devices, backends and plugins, to paste into a report.", "info"),
    "list": ("List the components that are installed.", "list"),
    "matrix": ("Capabilities, and which representation fits which extractor.", "matrix"),
    "new-plugin": ("Write the package of a plugin of your own: a component that works, with its test.", "new_plugin"),
    "parity": ("Run golden cases against the installed components.", "parity"),
    "plugins": ("List the installed plugins and what is wrong with any of them.", "plugins"),
    "report": ("Write the page of a bench: table, plots and meshes in one offline HTML file.", "report"),
    "run": ("Run a pipeline: an image, a mesh or a text to a file.", "run"),
    "warmup": ("Run every component once on tiny shapes, so that kernels compile now and not later.", "warmup"),
    "weights": ("Show which weights a pipeline needs, how large, under which licence, and where they are.", "weights"),
}

EXIT_FAILED = 1
"""The command ran, and something in it failed (a bench cell, a golden case)."""
EXIT_REFUSED = 2
"""The command could not do what was asked; nothing was changed."""
EXIT_INTERRUPTED = 130


class Interrupted(Exception):  # noqa: N818 (nothing went wrong)
    """Ctrl-C, past click, which would print an empty line of its own."""


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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not ctx.resilient_parsing and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            close = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there is {', '.join(self.list_commands(ctx))}"
            ctx.fail(f"no command is named {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][0]) for name in self.list_commands(ctx)])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="shapewright")
def group() -> None:
    """3D shape generation with swappable representations."""


_NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())  # click 8.2 and later


def _usage(error: click.ClickException) -> str:
    """One line instead of click's four; the help where ``shapewright`` was typed alone."""
    if isinstance(error, _NO_ARGUMENTS):
        return str(error.format_message())
    context = getattr(error, "ctx", None)
    advice = f" (see `{context.command_path} --help`)" if context else ""
    return f"error: {' '.join(error.format_message().split())}{advice}"


def _one_line(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def main(arguments: list[str] | None = None) -> None:
    """Entry point: a user's mistake is one message on standard error and a non-zero exit, never a traceback."""
    try:
        code = group.main(args=arguments, prog_name="shapewright", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        click.echo(_usage(error), err=True)
        sys.exit(error.exit_code)
    except (Interrupted, KeyboardInterrupt, click.exceptions.Abort):
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
