"""Numbers with their words, for sentences."""


def counted(number: int, what: str) -> str:
    """1 epoch, 2,000 epochs."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
