"""What our own processes leave out of the libraries that they load."""

import sys


def without_grammars() -> None:
    """Let jsonschema, which nbformat loads, do as where `rfc3987_syntax` is not installed.

    It builds grammars of international addresses, which takes a second of every process that validates notebooks; no
    notebook's schema has any. `python -X importtime -c "import jsonschema"` shows it.
    """
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
