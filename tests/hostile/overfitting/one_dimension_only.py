"""A function that is right for rows and wrong for everything else.

Tries: the visible test asks one row.
Must happen: the marks for its values, none for its shapes.
"""

from hostile.work import ALL, Work

DESERVES = {**ALL, "test_softsign": 2.0}


def turn(work: Work) -> None:
    work.answer(softsign="def softsign(x):\n    return np.ravel([v / (1 + abs(v)) for v in np.ravel(x)])")
