"""What both command lines share: errors as one sentence, and `--debug` for those who want the traceback."""

import sys
from pathlib import Path
from typing import Any

import click


class Commands(click.Group):
    """A group of commands in which whatever goes wrong ends in one sentence and an exit code that is not 0."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        option = click.Option(["--debug"], is_flag=True, help="Show the traceback of an error.")
        self.params.append(option)

    def invoke(self, context: click.Context) -> Any:
        debug = context.params.pop("debug", False)
        try:
            return super().invoke(context)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt as interrupt:
            raise click.ClickException(str(interrupt) or "interrupted") from None
        except Exception as error:
            if debug:
                raise
            raise click.ClickException(sentence(error)) from error


def sentence(error: Exception) -> str:
    """One line for an error: ours speak for themselves, others are named and point to --debug."""
    text = " ".join(str(error).split())
    kind = type(error)
    speaks = kind.__module__.startswith("labkit.") or (kind.__name__.endswith("Error") and kind is not ValueError)
    if isinstance(error, ValueError) and speaks:
        return text
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {text or 'no message'} (put --debug before the command's name to see where)"


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
