"""Makes and removes files beside the notebook without end, while the grader looks through the folder.

Tries: what was listed is not there any more, or is a folder or a link, when it is opened.
Must happen: what is right keeps its marks.
"""

from hostile.work import ALL, Work

DESERVES = ALL
CODE = """
import os

for worker in range(2):
    if os.fork() == 0:
        while True:
            for k in range(60):
                open(f"{worker}-{k}.safetensors", "w").close()
            for k in range(60):
                os.remove(f"{worker}-{k}.safetensors")
"""


def turn(work: Work) -> None:
    work.last(CODE)
