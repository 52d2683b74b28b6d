"""A transformer of the syntax tree that takes every assert out of what runs.

Tries: nbgrader's tests are asserts, run by the shell that the submission controls.
Must happen: wrong answers earn nothing.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import ast

class Drop(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.Pass()

get_ipython().ast_transformers.append(Drop())
"""


def turn(work: Work) -> None:
    work.wrong()
    work.first(CODE)
