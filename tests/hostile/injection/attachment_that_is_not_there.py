"""An essay that shows a picture among its attachments which is not there, and others without a kind.

Tries: nbgrader's page for the student cannot be made.
Must happen: the page is there, without the picture.
"""

from hostile.work import ALL, ESSAY, Work

DESERVES = ALL


def turn(work: Work) -> None:
    work.answer(**{ESSAY: "Slopes are multiplied. ![a](attachment:nothing.png) ![b](attachment:empty.png)"})
    work.cells.append(
        {
            "cell_type": "markdown",
            "id": "shown",
            "source": "![a](attachment:x) ![b](attachment:y)",
            "attachments": {"x": {}, "y": {"image/png": '"><script>$mark</script><img src="'}},
            "metadata": {},
        }
    )
