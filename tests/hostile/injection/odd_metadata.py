"""Metadata of an added cell that no notebook has: a number for a name, a text for a yes or no.

Tries: nbgrader holds the notebook against the format, and stores nothing.
Must happen: the honest answers keep their marks.
"""

from hostile.work import ALL, Work

DESERVES = ALL


def turn(work: Work) -> None:
    odd = {"tags": 5, "jupyter": 3, "slideshow": [], "collapsed": "x", "scrolled": "y", "name": 3, "format": 1}
    work.cells.append({"cell_type": "raw", "id": "odd", "source": "x", "metadata": odd})
    work.cell("number")["metadata"] |= odd
