"""Scripts, frames and styles in the essay, in added cells, in attachments and in the notebook's metadata.

Tries: nbgrader shows a student's Markdown as HTML.
Must happen: shown as text.
"""

import copy

from hostile.work import ALL, ESSAY, Work

DESERVES = ALL
EVIL = """<script>$mark</script>
<img src="x" onerror="$mark"><iframe src="javascript:$mark"></iframe><style>$mark</style>
[a](javascript:$mark) ![b](x "onerror=$mark") <svg/onload=$mark> <ScRiPt>$mark</sCrIpT>
[d][e] [e] [f](java&#115;cript:$mark) [g](javascript&colon;$mark) [h](< javascript:$mark>) [i](JaVaScRiPt:$mark "t")
<details open ontoggle="$mark"> <!-- > <script>$mark</script> --> <a href="java&#115;cript:$mark">c</a>
<
script>$mark</script> $$\\href{javascript:$mark}{x}$$ `<script>$mark</script>`

[e]: javascript:$mark
"""


def turn(work: Work) -> None:
    work.answer(**{ESSAY: EVIL})
    added = copy.deepcopy(work.cell("words_text"))
    added.update(id="added", metadata={"tags": [work.filled(EVIL)]}, source=work.filled(EVIL))
    added["attachments"] = {work.filled("x' onerror='$mark"): {"image/png": work.filled("' onerror='$mark")}}
    work.cells.append(added)
    work.cells.append({"cell_type": "raw", "metadata": {"format": "text/html"}, "source": work.filled(EVIL), "id": "r"})
    work.notebook["metadata"]["title"] = work.filled(EVIL)
    work.notebook["metadata"]["language_info"] = {"name": work.filled("x' onload='$mark"), "pygments_lexer": "html"}
