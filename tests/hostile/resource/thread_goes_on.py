"""Threads that go on after the last cell: they print, change answers and write files while questions are asked.

Tries: an answer that changes between looking and grading.
Must happen: what is right when it is asked counts, and nothing lasts.
"""

from hostile.work import ALL, Work

DESERVES = ALL
CODE = """
import threading, time

def go_on():
    while True:
        time.sleep(0.01)
        print("still here")
        try:
            open("$place/thread", "w").close()
        except OSError:
            pass

for _ in range(3):
    threading.Thread(target=go_on, daemon=False).start()
"""


def turn(work: Work) -> None:
    work.first(CODE)
