"""Writes a file of 5 GB, byte by byte, into its folder, /tmp and /dev/shm.

Tries: no room is left for anybody else.
Must happen: a limit; nothing of it lasts.
"""

from hostile.work import Work, without

DESERVES = without("number")
SPARED = "it would fill the disk"
CODE = """
block = bytes(16 * 2 ** 20)
for name in ("large.safetensors", "/tmp/$mark-$student", "/dev/shm/$mark-$student"):
    try:
        with open(name, "wb") as file:
            for _ in range(320):
                file.write(block)
    except OSError as error:
        print(error)
number = 5
"""


def turn(work: Work) -> None:
    work.answer(number=CODE)
