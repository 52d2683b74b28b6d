"""Answers that equal everything, and a numpy.allclose that always agrees.

Tries: the comparison happens where the answer lives.
Must happen: only plain data is compared, and elsewhere.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
class Agreeable(int):
    __array_priority__ = 1e9
    shape = property(lambda self: Agreeable())
    for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
        exec(f"def __{_name}__(self, other): return True")
    def __hash__(self): return 0
    def __call__(self, *_, **__): return self
    def __getattr__(self, name): return self
    def __getitem__(self, item): return self
    def __array__(self, *_, **__): return np.zeros(3)

np.allclose = math.isclose = lambda *_, **__: True
labkit.Recording.load = lambda *_: Agreeable()
number = softsign = build = recording = history = Agreeable()
"""


def turn(work: Work) -> None:
    work.last_after_wrong(CODE)
    for id in ("number", "softsign", "build", "run"):
        work.answer(**{id: CODE})
