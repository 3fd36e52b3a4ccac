"""Numbers as text."""


def fixed(value: float, digits: int, *, signed: bool = False) -> str:
    """Return a number with a fixed number of decimals; one that rounds to zero has no sign.

    Args:
        signed: write the plus sign of positive numbers.
    """
    text = f"{value:z.{digits}f}"
    return f"+{text}" if signed and value > 0 and float(text) else text
