"""An input transformer that makes each test cell nothing but the number of its points.

Tries: nbgrader takes the last value of a test cell for its marks.
Must happen: a number that the submission shows is no mark.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
points = {"math.isclose": 1.0, "softsign": 3.0, "build": 2.0, "Recording": 4.0, "timeline": 1.0}

def paid(lines):
    found = [of for word, of in points.items() if word in "".join(lines)]
    return [str(found[0])] if found and "assert" in "".join(lines) else lines

get_ipython().input_transformers_post.append(paid)
"""


def turn(work: Work) -> None:
    work.blank()
    work.first(CODE)
