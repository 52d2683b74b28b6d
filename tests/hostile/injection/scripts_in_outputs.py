"""Scripts in outputs of every kind: HTML, SVG, Markdown, Latex, widgets, error messages, names of variables.

Tries: feedback and report are read in the instructor's browser, signed in.
Must happen: nothing in a page is more than text and harmless markup.
"""

from hostile.work import ALL, Work

DESERVES = ALL
CODE = """
from IPython.display import HTML, SVG, Javascript, Latex, Markdown, display

evil = "<script>$mark</script><img src=x onerror='$mark'><svg onload='$mark'><a href='javascript:$mark'>a</a>"
for kind in (HTML, Markdown, Latex):
    display(kind(evil))
display(HTML("<iframe srcdoc='$mark'></iframe><table><tr><td onclick='$mark'>x</td></tr></table>"))
display({"text/html": "<b>x</b></div><script>$mark</script>", "text/plain": "x"}, raw=True)
display({"image/svg+xml": "<svg onload='$mark'><script>$mark</script></svg>"}, raw=True)
display({"image/png": "x' onerror='$mark"}, raw=True, metadata={"image/png": {"alt": "' onerror='$mark"}})
display({"image/png": "iVBORw0KGgo=' onerror='$mark"}, raw=True, metadata={"image/png": {"width": "1' onload='$mark"}})
display(Javascript("$mark"))
print(evil)
globals()[evil] = 5
try:
    raise type(evil, (Exception,), {})(evil)
except Exception:
    get_ipython().showtraceback()
"""


def turn(work: Work) -> None:
    work.first(CODE)
