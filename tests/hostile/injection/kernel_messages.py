"""Sends kernel messages of its own: results of 10.0 and replies that say `ok` for the cells that follow.

Tries: nbgrader believes what the kernel publishes under the identity of a request.
Must happen: there is no kernel to speak for; nothing earned.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
try:
    kernel = get_ipython().kernel
    send, publish = kernel.session.send, kernel.session.send

    def forged(stream, kind, content=None, *rest, **named):
        if kind == "execute_reply":
            content = {**content, "status": "ok", "user_expressions": {}, "payload": []}
        if kind == "error":
            kind, content = "execute_result", {"data": {"text/plain": "10.0"}, "metadata": {}, "execution_count": 9}
        return send(stream, kind, content, *rest, **named)

    kernel.session.send = forged
except AttributeError:
    pass
"""


def turn(work: Work) -> None:
    work.blank()
    work.first(CODE)
