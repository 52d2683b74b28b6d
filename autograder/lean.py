"""What our own processes leave out of the libraries that they load."""

import sys


def without_grammars() -> None:
    """Let jsonschema, which nbformat loads, do as where `rfc3987_syntax` is not installed.

    It takes a second of every process, to build grammars of international addresses; no notebook's schema has any.
    """
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
