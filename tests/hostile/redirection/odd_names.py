"""Files whose names hold newlines, escapes, wrong UTF-8, quotes, markup and two hundred letters.

Tries: whoever lists, logs or shows names stumbles.
Must happen: the honest answers earn their marks, the names do no harm.
"""

from hostile.work import ALL, Work

DESERVES = ALL


def turn(work: Work) -> None:
    names = ["two\nlines.txt", "\x1b[31mred", "$(touch here)", "'; DROP TABLE grade; --", "-rf", "~", "..hidden",
             "\u202etxt.exe", "a" * 200, "<img src=x onerror=$mark>.txt", "\r\n.ipynb.txt", " ", "nul\x7f"]  # fmt: skip
    for name in names:
        work.files[work.filled(name)] = b"odd"
    work.files[b"\xff\xfe.txt"] = b"no text"
