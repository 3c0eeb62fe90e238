"""What the figures say, in a few plain sentences: the top of the report and of the model card."""

from common.page.render import interval, num, percent
from eval.reporting.results import MAIN, Json, Results, leaders

FEW_STUDIES, FEW = 5, "So few studies say little about new ones."
BESIDE = {"uniform_observed": "a uniform guess lies", "pooled_others": "people of the study's other arms lie"}


def headline(results: Results, name: str | None = None) -> list[str]:
    """Sentences about one model (by default the closest to people): skill, distance, effects, the gain."""
    name = name or results.best["name"]
    rows = {row["name"]: row for row in leaders(results)[0]}
    row = rows.get(name) or results.scores[name]
    said = [
        _skill(name, row),
        _distance(name, row, rows),
        _effects(results.scores[name]),
        _gain(results, name),
    ]
    return [sentence for sentence in said if sentence]


def _skill(name: str, row: Json) -> str:
    skill = row["skill"].get(MAIN, {}).get("corrected") or {}
    value, low, high = skill.get("value"), skill.get("low"), skill.get("high")
    if value is None:
        return f"No skill can be given for {name}: {skill.get('reason') or 'it was not computed'}."
    spread = interval(skill, 2)
    studies = skill.get("studies")
    stands_on = f" over {studies} {'study' if studies == 1 else 'studies'}" if studies else ""
    sure = (
        f" (skill {num(value, 2)}; 95% interval {spread}{stands_on})"
        if spread
        else f" (skill {num(value, 2)})"
    )
    few = f" {FEW}" if studies and studies < FEW_STUDIES else ""
    if value <= 0:
        return f"{name} does no better than a uniform guess{sure}.{few}"
    if low is not None and high is not None and low <= 1 <= high and value > 0.9:
        return f"{name} can't be told from a perfect model{sure}.{few}"
    doubt = (
        " The interval includes 0, so it may be no better than a guess."
        if low is not None and low <= 0
        else ""
    )
    way = "of the way from a uniform guess to a perfect model"
    return f"{name} goes {percent(value)} {way}{sure}.{doubt}{few}"


def _distance(name: str, row: Json, rows: dict[str, Json]) -> str:
    def value(key: str) -> float | None:
        return (rows.get(key, {}).get("metrics", {}).get(MAIN) or {}).get("value")

    own = (row["metrics"].get(MAIN) or {}).get("value")
    if own is None:
        return ""
    others = [
        f"{words} {num(value(key))}"
        for key, words in BESIDE.items()
        if value(key) is not None
    ]  # fmt: skip
    said = f"Its answer distributions lie {num(own)} of the observed answer range from people's"
    return f"{said}; {', '.join(others)} away." if others else f"{said}."


def _effects(scores: Json) -> str:
    model, half = scores["effects"]["model"], scores["effects"]["half_sample"]
    sign = (model.get("sign_agreement_clear") or {}).get("value")
    if sign is None:
        return ""
    control = (half.get("sign_agreement_clear") or {}).get("value")
    said = f"Where a treatment clearly moves people, it gets the direction right {percent(sign)} of the time"
    if control is not None:
        said += f" (one half of the people predicting the other: {percent(control)})"
    size = (model.get("magnitude_ratio") or {}).get("value")
    return (
        f"{said}; its effects are {num(size, 1 if size >= 0.1 else 2)} times as large as people's."
        if size is not None
        else f"{said}."
    )


def _gain(results: Results, name: str) -> str:
    """How the model stands against its own base model, from the paired comparison."""
    base = f"{name.rpartition('-')[0]}-base"
    for one in results.comparison["differences"] if results.comparison else ():
        if one["metric"] == MAIN and {one["a"], one["b"]} == {name, base} and one["value"] is not None:
            nearer = (one["value"] > 0) == (one["b"] == name)  # the base's distance is the larger one
            sign = 1 if one["value"] > 0 else -1
            ends = sorted(sign * end for end in (one["low"], one["high"]) if end is not None)
            spread = f" (95% interval {num(ends[0])} to {num(ends[1])})" if len(ends) == 2 else ""
            sure = "" if len(ends) == 2 and ends[0] > 0 else ", which may be chance"
            word = "nearer to" if nearer else "farther from"
            return f"Fine-tuning took it {num(abs(one['value']))} {word} people than {base}{spread}{sure}."
    return ""
