"""sys.settrace changes what comparisons are given: both sides become the same.

Tries: a trace function may set the local variables of whatever is called.
Must happen: wrong answers earn nothing.
"""

from hostile.work import NOTHING, Work

DESERVES = NOTHING
CODE = """
import sys, threading

def tracer(frame, event, argument):
    if frame.f_code.co_name in ("allclose", "isclose", "array_equal") and "b" in frame.f_locals:
        frame.f_locals["a"] = frame.f_locals["b"]
        return tracer
    if frame.f_code.co_name == "_examine" and "evidence" in frame.f_locals:
        frame.f_locals["evidence"] = None
        return tracer

sys.settrace(tracer)
threading.settrace(tracer)
get_ipython().events.register("pre_run_cell", lambda *_: sys.settrace(tracer))
"""


def turn(work: Work) -> None:
    work.wrong()
    work.first(CODE)
