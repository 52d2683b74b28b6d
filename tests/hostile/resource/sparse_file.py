"""A file of 5 GB that takes no room at first.

Tries: whoever copies it needs the room.
Must happen: a limit on the size of files; the honest answers count.
"""

from hostile.work import Work, without

DESERVES = without("number")
CODE = """
with open("large.safetensors", "wb") as file:
    file.truncate(5 * 2 ** 30)
number = 5
"""


def turn(work: Work) -> None:
    work.answer(number=CODE)
