"""An endless loop that catches whatever is raised in it, KeyboardInterrupt and SystemExit included.

Tries: a limit of time that is only an exception.
Must happen: it ends all the same; what was right elsewhere counts.
"""

from hostile.work import Work, without

DESERVES = without("number")
CODE = """
def forever():
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass

forever()
"""


def turn(work: Work) -> None:
    work.answer(number=CODE)
