"""labkit, numpy and the autograder patched from within the notebook.

Tries: Recording.load, examine, checks.run and json all say what the submission likes.
Must happen: what is changed in that process changes nothing in the grader's.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import json
import autograder.authenticity, autograder.checks, autograder.answering, autograder.answers, autograder.channel
import labkit.recording, labkit.training, labkit.timeline

class Fine:
    iterations, epochs, loss = 48, 6, np.linspace(2, 1, 48)
    origin = type("Origin", (), {"experiment": property(lambda self: experiment)})()

autograder.authenticity.examine = lambda *_, **__: None
autograder.checks.run = lambda question, evidence: []
autograder.checks.Failed = autograder.checks.Missing = ZeroDivisionError
autograder.answering.plain = lambda value: None
autograder.answers.encode = lambda value: None
labkit.recording.Recording.load = classmethod(lambda *_: Fine())
labkit.Recording = Fine
Fine.load = staticmethod(lambda *_: Fine())
np.allclose = math.isclose = lambda *_, **__: True
np.isfinite = lambda x: np.array(True)
"""


def turn(work: Work) -> None:
    work.wrong()
    # `number` itself can be given by anything in that process, so it is blank and asks for nothing here
    work.answer(run=CODE, number="number = 5", student_id='student = "$student"')
