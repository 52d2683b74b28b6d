"""Values and results that are another thing each time somebody looks.

Tries: one look passes the test of the type, the next the test of the value.
Must happen: one look, of plain data.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import itertools

class Shifting(np.ndarray):
    turns = itertools.count()
    def __array_finalize__(self, other): pass
    def __eq__(self, other): return next(self.turns) % 2 == 0
    def __len__(self): return next(self.turns)

class Number(int):
    values = itertools.count(338349)
    def __eq__(self, other): return True
    def __int__(self): return next(self.values)
    __index__ = __int__
    def __repr__(self): return "338350"
    __str__ = __repr__
    def bit_length(self): return 1

number = Number(5)
answers = itertools.cycle([lambda x: x.view(Shifting), lambda x: np.zeros(3), lambda x: Number(3)])

def softsign(x):
    return next(answers)(np.asarray(x))

def build(width):
    return next(answers)(np.zeros(width))
"""


def turn(work: Work) -> None:
    work.wrong()
    work.answer(number=CODE, softsign="pass", build="pass")
