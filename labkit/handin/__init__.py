"""The hand-in as a document: a solved notebook and the recordings beside it, as PDF, Word document or web page.

notebook, pictures      what a notebook holds: answers under their questions, figures; nothing in it is run
measurements            the recordings beside it, as tables
words                   what a student wrote, as pandoc's tree, without anything that a program would run or fetch
document                all of it put in order
pdf, fonts              that order as PDF by Typst, and what its characters need
pages, word             that order as web page and as Word document by pandoc
"""

from labkit.handin.document import Made, Options, report
from labkit.handin.notebook import HandInError

__all__ = ["HandInError", "Made", "Options", "report"]
