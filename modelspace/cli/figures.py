"""Numbers formatted for people."""

from __future__ import annotations

from collections.abc import Sequence


def count(n: int) -> str:
    """Three significant digits with a unit.

    >>> count(950), count(11_689_512), count(1_300_000_000)
    ('950', '11.7M', '1.3B')
    """
    for power, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        # 999,950 would round to "1000k".
        if n >= power * 0.9995:
            return f"{n / power:.3g}{unit}"
    return str(n)


def seconds(value: float) -> str:
    """A duration.

    >>> seconds(0.034), seconds(3.21), seconds(75), seconds(3720)
    ('0.03 s', '3.2 s', '1 min 15 s', '1 h 2 min')
    """
    if value < 59.95:
        return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def shape(sides: Sequence[int]) -> str:
    """A shape, separated by "x".

    >>> shape((8, 16, 16)), shape((512,)), shape(())
    ('8x16x16', '512', 'one number')
    """
    return "x".join(map(str, sides)) or "one number"


def numbers(values: Sequence[float]) -> str:
    """Comma-separated numbers, or one if they are equal.

    >>> numbers((0.485, 0.5, 1.0)), numbers((0.5, 0.5, 0.5))
    ('0.485,0.5,1', '0.5')
    """
    return f"{values[0]:g}" if len(set(values)) == 1 else ",".join(f"{value:g}" for value in values)
