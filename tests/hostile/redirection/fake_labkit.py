"""A labkit of its own in the submission's folder, whose recordings are always right.

Tries: the working directory stands first in Python's path.
Must happen: the installed labkit is imported; a wrong run earns nothing.
"""

from hostile.work import Work, without

DESERVES = without("run", "timeline")
FAKE = """
class Recording:
    iterations, epochs = 48, 6
    @classmethod
    def load(cls, path): return cls()
def train(*_, **__): open("run.safetensors", "wb").write(b"trained")
def workspace(*_, **__): return __import__("types").SimpleNamespace(observe=lambda *_: None)
def __getattr__(name): return Recording()
"""
EXPERIMENTS = "def seed_of(*_): return 0\nclass Experiment:\n    def __init__(self, **_): pass\n"


def turn(work: Work) -> None:
    work.wrong("run", "timeline")
    work.files["labkit.py"] = FAKE.encode()
    work.lay.append(lambda folder: _package(folder / "labkit"))


def _package(folder) -> None:
    folder.mkdir()
    (folder / "__init__.py").write_text(FAKE)
    (folder / "experiments.py").write_text(EXPERIMENTS)
