"""Fills every place that it may write to with files of 30 MB, up to 6 GB, and 20,000 empty ones.

Tries: each file is small enough for a limit on files; together they fill the disk.
Must happen: a limit on all of them together; nothing of it lasts.
"""

from hostile.work import Work, without

DESERVES = without("number")
SPARED = "it would fill the disk"
CODE = """
import os
block = bytes(30 * 2 ** 20)
written = 0
for folder in (".", "/tmp", "/dev/shm", os.environ.get("HOME", ".")):
    try:
        for k in range(50):
            with open(f"{folder}/$mark-$student-{k}", "wb") as file:
                written += file.write(block)
    except OSError as error:
        print(error)
if written > 4 * 2 ** 30:
    print($proof)
for k in range(20_000):
    try:
        open(f"empty-{k}.safetensors", "w").close()
    except OSError:
        break
number = 5
"""


def turn(work: Work) -> None:
    work.answer(number=CODE)
