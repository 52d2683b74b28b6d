"""`compile` patched so that every later cell is compiled as by `python -O`.

Tries: an optimising compiler leaves asserts out.
Must happen: wrong answers earn nothing.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import codeop

codeop.Compile.__call__ = lambda self, source, filename, symbol, **_: compile(source, filename, symbol, optimize=2)
"""


def turn(work: Work) -> None:
    work.wrong()
    work.first(CODE)
