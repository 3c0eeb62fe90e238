"""How estimates are written: in sentences, and in the cells of a page's tables."""

from collections.abc import Iterable
from typing import Any

from common.page.render import count, num
from eval.scoring.record import Estimate

Json = dict[str, Any]
NOT_COMPUTED = Estimate(value=None, reason="not computed")


def interval(estimate: Estimate | None, digits: int = 3) -> str:
    """The 95% interval, as in "0.131 to 0.169"; empty where there is none.

    It is over studies; where there is none over studies (one study), that over people, marked.
    """
    if estimate is None or estimate.interval is None:
        return ""
    low, high = estimate.interval
    over = " (people)" if estimate.over == "people" else ""
    return f"{num(low, digits)} to {num(high, digits)}{over}"


def shown(estimate: Estimate | None, digits: int = 3) -> str:
    """An estimate with its interval, as in "0.150 (0.131 to 0.169)", or why there is none."""
    estimate = estimate or NOT_COMPUTED
    if estimate.value is None:
        return estimate.reason or "not computed"
    spread = interval(estimate, digits)
    return num(estimate.value, digits) + (f" ({spread})" if spread else "")


def cell_of(estimate: Estimate | None, digits: int = 3) -> Json:
    """A table's cell: the value, its interval or why there is none beneath, and a sort key."""
    estimate = estimate or NOT_COMPUTED
    cell = {"text": num(estimate.value, digits), "sort": estimate.value}
    spread = interval(estimate, digits)
    lost = f"{count(estimate.dropped)} resamples gave no value" if estimate.dropped else ""
    return cell | ({"note": spread, "why": lost} if spread else {"note": "", "why": estimate.reason or lost})


def brackets(estimates: Iterable[Estimate | None]) -> str:
    """What intervals are over, as a phrase: "95% interval over studies", or over people, or either."""
    kinds = sorted({one.over for one in estimates if one and one.over}, reverse=True)
    return f"95% interval over {' or '.join(kinds)}" if kinds else "no interval"


def over_people(value: float | None, ends: tuple[float, float] | None) -> Estimate:
    """A study's figure with its interval over people, as an estimate."""
    low, high = ends or (None, None)
    reason = "not computable" if value is None else None
    return Estimate(value=value, low_people=low, high_people=high, reason=reason)
