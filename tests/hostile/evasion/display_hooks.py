"""The display hook and IPython.display publish full marks for each cell, as numbers, pages and errors.

Tries: what a test cell shows decides about its marks.
Must happen: the grader writes its own verdict under a test cell.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import IPython.display as shown

shell = get_ipython()
for text in ("4.0", "10.0"):
    shell.display_pub.publish({"text/plain": text}, {})
shell.displayhook.quiet = lambda: False
publish = shell.display_pub.publish
shell.display_pub.publish = lambda data, *a, **k: publish({"text/plain": "10.0"}, {})
shell.events.register("post_run_cell", lambda *_: shell.displayhook(10.0))
shell.showtraceback = lambda *_, **__: shell.displayhook(10.0)
shown.display(4.0)
10.0
"""


def turn(work: Work) -> None:
    work.blank()
    work.first(CODE)
