"""Errors are swallowed: showtraceback does nothing, and every cell says that it succeeded.

Tries: for nbgrader a test cell without an error has passed.
Must happen: silence earns nothing.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell

shell = get_ipython()
for name in ("showtraceback", "_showtraceback", "showsyntaxerror"):
    setattr(shell, name, lambda *_, **__: None)
shell.set_custom_exc((BaseException,), lambda *_, **__: None)
ExecutionResult.success = property(lambda self: True)
ExecutionResult.raise_error = lambda self: None
ExecutionResult.error_in_exec = ExecutionResult.error_before_exec = property(lambda self: None, lambda self, _: None)
"""


def turn(work: Work) -> None:
    work.blank()
    work.first(CODE)
