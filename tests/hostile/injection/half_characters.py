"""Half surrogate pairs and escaped null characters in answers, essay, outputs and metadata.

Tries: text that no UTF-8 file can hold, written when the grade is stored.
Must happen: the honest answers keep their marks.
"""

from hostile.work import ALL, ESSAY, Work

DESERVES = ALL


def turn(work: Work) -> None:
    work.answer(**{ESSAY: "half \ud800 and \udfff and null \u0000 of it"})
    work.first("print('\\ud800\\0\\udfff')\ndisplay({'text/html': '\\ud800', 'text/plain': '\\ud800'}, raw=True)")
    work.cell("title")["metadata"]["half"] = "\ud800"
