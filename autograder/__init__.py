"""The autograder: what students call to check their work, and what instructors run to grade it.

Importing this costs nothing: `check` is loaded when it is first used, and neither torch nor nbgrader with it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autograder.selfcheck import check

__all__ = ["check"]


def __getattr__(name: str) -> Any:
    if name == "check":
        return import_module("autograder.selfcheck").check
    raise AttributeError(f"autograder has no {name!r}: students use autograder.check, instructors its modules")
