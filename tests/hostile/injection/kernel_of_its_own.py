"""Metadata that names a kernel: one whose command is the student's.

Tries: a notebook says which kernel runs it.
Must happen: the grader decides what runs.
"""

import json

from hostile.work import ALL, Work

DESERVES = ALL


def turn(work: Work) -> None:
    spec = {"name": "own", "display_name": "own", "language": "python"}
    work.notebook["metadata"]["kernelspec"] = spec
    argv = ["sh", "-c", work.filled("touch $place/own-kernel-was-started")]
    work.lay.append(lambda folder: _kernel(folder / "share/jupyter/kernels/own", {**spec, "argv": argv}))


def _kernel(folder, spec) -> None:
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps(spec))
