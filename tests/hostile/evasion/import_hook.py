"""An import hook and replaced modules: whatever tests import is a stand-in that agrees.

Tries: hidden tests import math, torch and their own checks only later.
Must happen: the checks' modules are the grader's, in the grader's process.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import sys, types, importlib.abc, importlib.machinery, builtins

class Yes(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: True

class Hook(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name.startswith(("autograder", "numpy.testing", "pytest", "unittest")):
            return importlib.machinery.ModuleSpec(name, self)
    def create_module(self, spec):
        return Yes(spec.name)
    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Hook())
for name in [name for name in sys.modules if name.startswith("autograder")] + ["math"]:
    sys.modules[name] = Yes(name)
math = sys.modules["math"]
allclose, math.isclose = np.allclose, lambda *_, **__: True
np.allclose = lambda *_, **__: True
"""


def turn(work: Work) -> None:
    work.wrong()
    work.first(CODE)
