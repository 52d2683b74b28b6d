"""No recording is handed in: a patched labkit saves a forged one while the notebook is graded.

Tries: what a run makes in the grader's own process might count as witnessed.
Must happen: it is examined like any other.
"""

from hostile.work import Work, without

DESERVES = without("run")


CODE = """
import dataclasses
import labkit.recording

honest = labkit.train(experiment, device="cpu", progress=False)
forged = dataclasses.replace(honest, gradient=honest.gradient[::-1].copy(), loss=np.sort(honest.loss)[::-1].copy())
labkit.recording._check_chain = lambda *_: None
forged.save("run.safetensors")
found = forged
"""


def turn(work: Work) -> None:
    work.answer(run=CODE)
