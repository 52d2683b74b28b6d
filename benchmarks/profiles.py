"""Where the time goes: what the interpreter's profiler sees of a call, by parts that do not call one another."""

import cProfile
import pstats
from collections.abc import Callable, Mapping
from typing import Any

# a part: functions by themselves, or what C functions are called in a profile, by a piece of their names
Parts = Mapping[str, tuple[Callable[..., Any] | str, ...]]


def tell_shares(profile: cProfile.Profile, parts: Parts) -> None:
    """Print each part's share of the whole."""
    found: Any = pstats.Stats(profile)
    for name, functions in parts.items():
        print(f"  {name:48}{spent(found.stats, functions) / found.total_tt:6.0%}")


def spent(rows: Mapping[tuple[str, int, str], Any], functions: tuple[Callable[..., Any] | str, ...]) -> float:
    """Seconds within these functions and what they call."""
    codes = [one.__code__ for one in functions if not isinstance(one, str)]
    keys = {(code.co_filename, code.co_firstlineno, code.co_name) for code in codes}
    names = [one for one in functions if isinstance(one, str)]
    return float(sum(row[3] for key, row in rows.items() if key in keys or any(name in key[2] for name in names)))
