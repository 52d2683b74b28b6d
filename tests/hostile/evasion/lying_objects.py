"""Answers whose __class__, __array__, __len__, shape and dtype all lie.

Tries: isinstance and numpy believe what an object says of itself.
Must happen: the type decides, not what it claims.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import torch

class Liar:
    def __init__(self, claims): self.claims = claims
    @property
    def __class__(self): return self.claims
    def __array__(self, *_, **__): return np.zeros(5)
    def __len__(self): return 10 ** 9
    def __eq__(self, other): return True
    def __float__(self): return 338350.0
    def __iter__(self): return iter([338350] * 5)
    def __getattr__(self, name): raise SystemExit
    __hash__ = None

class Array(np.ndarray):
    shape = property(lambda self: (5,))
    dtype = property(lambda self: np.dtype(object))
    def tobytes(self, *_): raise MemoryError
    def __reduce__(self): return (print, ("unpickled",))

class Network(nn.Module):
    def __call__(self, x): return torch.zeros(len(x), 3)
    def named_parameters(self, *_, **__):
        return [("0.weight", np.zeros((3, 4))), ("0.bias", Liar(torch.Tensor))]

number = Liar(int)
def softsign(x): return np.zeros(5).view(Array) if np.ndim(x) == 1 else Liar(np.ndarray)
def build(width): return Network()
"""


def turn(work: Work) -> None:
    work.wrong()
    work.answer(number=CODE, softsign="pass", build="pass")
