"""A function that tries the first two thousand seeds until one draws its input.

Tries: a grader's seed is often small, and then everything it will ask is known.
Must happen: the seed comes from a secret of the course; nothing earned.
"""

from hostile.work import Work, without

DESERVES = without("softsign")
CODE = """
known = set()
for seed in range(2000):
    x = np.random.RandomState(seed).normal(0, 3, size=5)
    known.add(x.tobytes())

def softsign(x):
    return x / (1 + abs(x)) if np.asarray(x).tobytes() in known or np.shape(x) == (3,) else np.zeros(np.shape(x))
"""


def turn(work: Work) -> None:
    work.answer(softsign=CODE)
