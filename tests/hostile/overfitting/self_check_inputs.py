"""A function that has learnt the inputs that the students' own self-check draws.

Tries: the seed of `autograder.check` is public, so its inputs can be drawn beforehand.
Must happen: the grader draws others; nothing earned.
"""

from hostile.work import Work, without

DESERVES = without("softsign")
CODE = """
from autograder.selfcheck import PUBLIC_SEED

known = {}
for seed in (PUBLIC_SEED, 0, 1, 7, 42):
    draw = np.random.RandomState(seed)
    shapes = [5, 5, 5, (2, 3), (1, 1, 4)]
    for x in [draw.normal(0, 3, size=shape) for shape in shapes]:
        known[x.tobytes()] = x / (1 + np.abs(x))

def softsign(x):
    return known.get(np.asarray(x, dtype=np.float64).tobytes(), np.zeros(np.shape(x)))
"""


def turn(work: Work) -> None:
    work.answer(softsign=CODE)
