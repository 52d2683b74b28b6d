"""The errors that pages of JupyterLab and nbgrader tell of by themselves; each is met in every whole session."""

from browser.watch import Known

MATHJAX = "nbgrader's formgrader takes MathJax from a CDN, and here nothing outside is asked; formulas stay as typed"
UNTRUSTED = "JupyterLab keeps the scripts of nbgrader's page of feedback from running until somebody trusts it"

KNOWN = (
    Known(r"outside: https://cdnjs\.cloudflare\.com/ajax/libs/mathjax/", MATHJAX),
    Known(r"net::ERR_FAILED \(https://cdnjs\.cloudflare\.com/ajax/libs/mathjax/", MATHJAX),
    Known(r"script: .*MathJax is not defined", MATHJAX),
    Known(r"Blocked script execution in 'blob:", UNTRUSTED),
)
