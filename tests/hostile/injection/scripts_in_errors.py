"""Answers that fail with scripts in everything that a verdict quotes: messages, class names, layers, source lines.

Tries: what a check found is shown to student and instructor.
Must happen: shown as text.
"""

from hostile.work import Work, only

DESERVES = only("run", "timeline")
EVIL = "</div><script>$mark</script><img src=x onerror='$mark'>"


def turn(work: Work) -> None:
    evil = work.filled(EVIL)
    work.answer(
        number=f"number = type({evil!r}, (), {{}})()",
        softsign=f"def softsign(x):\n    raise type({evil!r}, (Exception,), {{}})({evil!r})  # {evil}",
        build=f"def build(width):\n    net = nn.Sequential()\n    net.add_module({evil.replace('.', ' ')!r}, "
        "nn.Linear(4, 2))\n    return net",
    )
