"""numpy, json, socket and torch of its own in the submission's folder.

Tries: a grader that imports late finds the student's modules first.
Must happen: the installed ones are found; the honest answers count as ever.
"""

from hostile.work import ALL, Work

DESERVES = ALL
FAKE = 'open("$place/" + __name__, "w").close()\nraise SystemExit(0)\n'


def turn(work: Work) -> None:
    for name in ("numpy", "json", "socket", "torch", "typing", "safetensors", "encodings", "ctypes", "IPython"):
        work.files[f"{name}.py"] = work.filled(FAKE).encode()
