"""Scripts and escapes in a recording: its student, its layers, the reason why it stopped, its versions.

Tries: a recording's words are quoted where it is refused, and drawn in the report.
Must happen: shown as text, and the run is refused.
"""

from dataclasses import replace

from hostile.work import Work, without

DESERVES = without("run")
EVIL = "\x1b[2J\x1b]0;owned\x07</div><script>$mark</script>\u202e=cmd|x"


def turn(work: Work) -> None:
    evil, r = work.filled(EVIL), work.run
    experiment = replace(r.origin.experiment, name=evil, student=evil, seed=1)
    origin = replace(
        r.origin, experiment=experiment, student=evil, stopped=evil, device=evil,
        layers=tuple(evil for _ in r.origin.layers), versions={evil: evil},
    )  # fmt: skip
    work.hand_in_run(replace(r, origin=origin))
