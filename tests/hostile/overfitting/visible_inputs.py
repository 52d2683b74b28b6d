"""A function that knows the numbers of the visible test, and nothing else.

Tries: full marks for a table of the inputs that the notebook shows.
Must happen: other inputs, other shapes; nothing earned.
"""

from hostile.work import Work, without

DESERVES = without("softsign")
CODE = """
def softsign(x):
    return np.array([0.0, 0.5, -0.75]) if np.shape(x) == (3,) else np.full(np.shape(x), 0.5)
"""


def turn(work: Work) -> None:
    work.answer(softsign=CODE)
