"""What both command lines share: errors as one sentence, and `--debug` for those who want the traceback."""

import sys
from pathlib import Path
from typing import Any

import click

DEBUG = "labkit.debug"


class Commands(click.Group):
    """A group of commands in which whatever goes wrong ends in one sentence and an exit code that is not 0."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.params.append(_debug())

    def add_command(self, command: click.Command, name: str | None = None) -> None:
        if not isinstance(command, Commands):
            command.params.append(_debug())
        super().add_command(command, name)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt as interrupt:
            raise click.ClickException(str(interrupt) or "interrupted") from None
        except Exception as error:
            if context.meta.get(DEBUG):
                raise
            raise click.ClickException(sentence(error)) from error


def _debug() -> click.Option:
    """--debug, before a command's name and after it: a group and its commands share meta."""

    def note(context: click.Context, _: click.Parameter, wanted: bool) -> None:
        context.meta[DEBUG] = context.meta.get(DEBUG, False) or wanted

    return click.Option(
        ["--debug"], is_flag=True, expose_value=False, callback=note, help="Show the traceback of an error."
    )


def sentence(error: Exception) -> str:
    """One line for an error: ours speak for themselves, others are named and point to --debug."""
    text = " ".join(str(error).split())
    kind = type(error)
    speaks = kind.__module__.startswith("labkit.") or (kind.__name__.endswith("Error") and kind is not ValueError)
    if isinstance(error, ValueError) and speaks:
        return text
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {text or 'no message'} (run it again with --debug to see where)"


def make_folder(path: Path) -> None:
    """The folder that `--out` names."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise click.ClickException(f"{path} cannot be made a folder ({why}): choose another --out") from error


def prepare_terminal() -> None:
    """Let a closed pipe (`| head`) end a command quietly."""
    if sys.platform != "win32":
        import signal

        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
