"""A solved notebook for the tests of the hand-in, and its documents read back by other programs than those that wrote
them: Word's by pandoc, the page by Python's parser of HTML, the PDF by pypdf where that is installed."""

import base64
import io
import json
from html.parser import HTMLParser

import pypandoc
import pytest
from PIL import Image

LONG = "Loss against iteration, linear scale. ReLU: 2.29 at iteration 1, 0.315 at 2,000."
FIRST = r"""The gradients of *fc_1* are smaller: größer wäre schön, naïve façade, αβγ ∂Ω → ⇒ ≤ ∞ Градиент.

Inline $x^2 + \frac{a}{b}$, spaced $ \sigma'(x) \le \frac14 $, and $5 and $6 are prices.

$$\frac{\partial L}{\partial W_4} = \sum_{i=1}^{N} (p_i - y_i)\, h_3^{\mathsf T}$$

\begin{align} a &= b + c \\ &= d \end{align}

```python
def halve(x):  # no $formula$ here
    return {"a": x ** 2}
```

| run | ratio |
|-----|------:|
| relurow | 1.6 |

1. firstly
2. secondly

> quotedly

A claim.[^1]

[^1]: Noted below.
"""
SECOND = "Clipping shortens a gradient that is too long. ![mine](attachment:own.png)"


def png(width=300, height=200, color="teal"):
    made = io.BytesIO()
    Image.new("RGB", (width, height), color).save(made, "PNG")
    return base64.b64encode(made.getvalue()).decode()


def words_cell(source, id=None, **rest):
    about = {"nbgrader": {"grade_id": id, "grade": True, "solution": True, "points": 2}} if id else {}
    return {"cell_type": "markdown", "source": source, "metadata": about, **rest}


def code_cell(source, *outputs, id=None):
    about = {"nbgrader": {"grade_id": id, "grade": False, "solution": True}} if id else {}
    return {"cell_type": "code", "source": source, "metadata": about, "outputs": list(outputs), "execution_count": 1}


def drawn(content, alt=None):
    about = {"image/png": {"alt": alt}} if alt else {}
    return {"output_type": "display_data", "data": {"image/png": content, "text/plain": "a figure"}, "metadata": about}


def printed(text):
    return {"output_type": "stream", "name": "stdout", "text": text}


def written(folder, *cells, name="lab.ipynb"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


CELLS = (
    words_cell("# Vanishing *gradients*"),
    code_cell('student = "ada"', id="student_id"),
    words_cell("## Look at it"),
    code_cell("plots.losses(x)", drawn(png(color="red"), "An older drawing of the same kind, which is left out.")),
    code_cell("plots.losses([relu])", printed("relu |█████| 2000/2000"), drawn(png(), LONG)),
    code_cell("labkit.train(x, watch=y)", drawn(png(), "What a training showed while it ran.")),
    words_cell("**What do they show?** Describe *it*."),
    words_cell(FIRST, "figures"),
    words_cell("## Question 1: exploding\n\nWhy does clipping help?"),
    code_cell("def f():\n    return 'codeword'", id="answer_f"),
    words_cell(SECOND, "question_1", attachments={"own.png": {"image/png": png(color="gold")}}),
)


class Page(HTMLParser):
    """What is on a page: its words, its tags, what its images say and where they come from."""

    def __init__(self, text):
        super().__init__()
        self.words, self.tags, self.images, self.links = "", [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        about = dict(attributes)
        self.tags.append(tag)
        self.links += [value for key, value in attributes if key in ("src", "href", "srcset", "data") and value]
        assert not [key for key in about if key.startswith("on")]
        if tag == "img":
            self.images.append(about["alt"])

    def handle_data(self, data):
        self.words += data


def read_back(path):
    """The words of a document, blanks and breaks as single blanks."""
    if path.suffix == ".pdf":
        pypdf = pytest.importorskip("pypdf", reason="pypdf reads the PDF back")
        text = "\n".join(page.extract_text() for page in pypdf.PdfReader(path).pages)
    elif path.suffix == ".docx":
        text = pypandoc.convert_file(str(path), "plain", extra_args=["--wrap=none", "--columns=1000", "--standalone"])
    else:
        text = Page(path.read_text("utf-8")).words
    return " ".join(text.split())
