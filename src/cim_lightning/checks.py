"""Range checks of parameters. Each raises ConfigError with a valid value as the suggestion."""

import difflib
import math
from collections.abc import Iterable, Sequence

from cim_lightning.errors import ConfigError

LISTED = 40  # names of a hint in one line


def check_at_least(name: str, value: float | None, low: float) -> None:
    """Require a finite value >= low; None passes."""
    if value is not None and not low <= value < math.inf:
        rule = f"must be at least {low:.10g}{' and finite' if value == math.inf else ''}"
        raise ConfigError(name, value, rule, suggest=low)


def check_above(name: str, value: float | None, low: float, suggest: float) -> None:
    """Require a finite value > low; None passes."""
    if value is not None and not low < value < math.inf:
        rule = f"must be above {low:.10g}{' and finite' if value == math.inf else ''}"
        raise ConfigError(name, value, rule, suggest=suggest)


def check_within(name: str, value: float | None, low: float, high: float) -> None:
    """Require low <= value <= high; None passes."""
    if value is not None and not low <= value <= high:
        raise ConfigError(
            name, value, f"must be in {low:.10g}..{high:.10g}", suggest=high if value > high else low
        )


def check_share(name: str, value: float | None, *, zero: bool = True, one: bool = True) -> None:
    """Require a share or probability in 0..1, with (default) or without 0 and 1; None passes."""
    if value is None or (0 < value < 1) or (zero and value == 0) or (one and value == 1):
        return
    rule = f"must be {'at least' if zero else 'above'} 0 and {'at most' if one else 'below'} 1"
    low, high = 0.0 if zero else 0.1, 1.0 if one else 0.9
    raise ConfigError(name, value, rule, suggest=high if value >= 1 else low)


def check_each_at_least(name: str, values: Sequence[float], low: float, *, suggest: Sequence[float]) -> None:
    """Require one or more finite values >= low."""
    if not values or not all(low <= value < math.inf for value in values):
        rule = f"must be one or more numbers, each at least {low:.10g}"
        raise ConfigError(name, list(values), rule, suggest=suggest)


def check_each_above(name: str, values: Sequence[float], low: float, *, suggest: Sequence[float]) -> None:
    """Require one or more finite values > low."""
    if not values or not all(low < value < math.inf for value in values):
        rule = f"must be one or more numbers above {low:.10g}"
        raise ConfigError(name, list(values), rule, suggest=suggest)


def check_each_within(name: str, values: Sequence[float], low: float, high: float) -> None:
    """Require low <= value <= high of every value; an empty list passes."""
    if not all(low <= value <= high for value in values):
        nearest = [high if value > high else value if value >= low else low for value in values]
        raise ConfigError(name, list(values), f"must be in {low:.10g}..{high:.10g}", suggest=nearest)


def check_divides(name: str, value: int, total: int, rule: str, parts: int = 1) -> None:
    """Require a divisor of a total that splits it into at least `parts` parts."""
    divisors = [n for n in range(1, total // parts + 1) if total % n == 0] or [1]
    if value not in divisors:
        nearest = min(divisors, key=lambda n: (abs(n - value), -n))
        raise ConfigError(name, value, rule, suggest=nearest)


def check_one_of(name: str, value: str, choices: Iterable[str]) -> None:
    """Require one of the choices."""
    choices = list(choices)
    if value not in choices:
        rule = f"must be one of {', '.join(choices)}"
        raise ConfigError(name, value, rule, hint=did_you_mean(value, choices))


def check_ordered(
    name: str, value: Sequence[float], low: float = 0, high: float = float("inf"), *, suggest: Sequence[float]
) -> tuple[float, float]:
    """Require two numbers with low < first <= second <= high, and return them."""
    if len(value) != 2 or not low < value[0] <= value[1] <= high:
        end = "" if high == float("inf") else f" <= {high:.10g}"
        rule = f"must be two numbers with {low:.10g} < low <= high{end}"
        raise ConfigError(name, value, rule, suggest=suggest)
    return float(value[0]), float(value[1])


def did_you_mean(given: str, choices: Iterable[str]) -> str:
    """Return a hint with the closest name, or with the first names if none is close."""
    choices = sorted(choices)
    if close := difflib.get_close_matches(given, choices, n=1, cutoff=0.4):
        return f"did you mean {close[0]}?"
    more = f", ... ({len(choices)} in all)" if len(choices) > LISTED else ""
    return f"choose from {', '.join(choices[:LISTED]) or '(nothing)'}{more}"
