"""At its end the notebook puts a link to a classmate's recording in the place of its own.

Tries: the grader collects what a run has made after the run, and might follow.
Must happen: only ordinary files are taken; the classmate's run is none of this student's anyway.
"""

from hostile.work import Work, without

DESERVES = without("run", "timeline")
CODE = """
import os, threading
for name, target in (("run.safetensors", "$course/submitted/zoe/trial/run.safetensors"),
                     ("workspace.json", "$course/results/trial/ada.json")):
    try:
        os.unlink(name)
    except OSError:
        pass
    os.symlink(target, name)
os.mkfifo("pipe.safetensors")
os.mkdir("folder.safetensors")
"""


def turn(work: Work) -> None:
    work.wrong("run")
    work.answer(timeline=CODE)
