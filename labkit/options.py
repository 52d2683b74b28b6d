"""Options of the command line that change an experiment; their names are those of its fields."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def _widths(_context: click.Context, _option: click.Parameter, said: str | None) -> tuple[int, ...] | None:
    try:
        return None if said is None else tuple(map(int, said.split(",")))
    except ValueError:
        raise click.BadParameter(f"{said!r}: give whole numbers with commas between them, 784,20,10") from None


_OPTIONS = (
    click.option("--data", help="Other data of the same shape: digits for mnist."),
    click.option("--observations", type=int, help="Another number of images, points or sequences."),
    click.option("--epochs", type=int, help="Another number of epochs."),
    click.option(
        "--widths", metavar="N,N,...", callback=_widths, help="Other units, from the input to the output: 784,20,10."
    ),
    click.option("--activation", help="Another activation, such as tanh."),
    click.option("--initialisation", help="Other initial weights, such as he_normal."),
    click.option("--gain", type=float, help="Another factor of the initial weights."),
    click.option("--normalisation", help="none, batch or layer."),
    click.option("--residual", is_flag=True, default=None, help="Add each hidden layer's input to its output."),
    click.option("--optimizer", help="adam, rmsprop or sgd."),
    click.option("--learning-rate", type=float, help="Another learning rate."),
    click.option("--batch-size", type=int, help="Another size of the mini-batches."),
    click.option("--clip-norm", type=float, help="Clip the gradient to this norm, over all parameters."),
    click.option("--clip-each", type=float, help="Clip each parameter's gradient to this norm."),
    click.option("--clip-value", type=float, help="Cut each value of the gradient off at this size."),
)


def changes(command: F) -> F:
    """Give a command all of them; what was not said arrives as None."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def changed(wishes: dict[str, Any]) -> dict[str, Any]:
    """Those that were said, for `Experiment.replace`."""
    return {name: value for name, value in wishes.items() if value is not None}
