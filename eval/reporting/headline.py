"""What the figures say, in a few plain sentences: the top of the report and of the model card."""

from common.page.render import num, percent
from eval.reporting.results import MAIN, Results, leaders
from eval.scoring.record import Estimate, Scores, TableRow

FEW_STUDIES, FEW = 5, "So few studies say little about new ones."
FEWEST_CLEAR = 5  # clear contrasts from which a share of right directions is put into a sentence
MUCH = 0.5  # share of probability off the scale that the headline tells
REFERENCES = {
    "uniform_observed": "a uniform guess lies",
    "pooled_others": "people of the study's other arms lie",
}


def headline(results: Results, name: str | None = None) -> list[str]:
    """Sentences about one model (by default the closest to people): skill, distance, effects, the gain."""
    name = name or results.best.name
    rows = {row.name: row for row in leaders(results)[0]}
    row = rows.get(name) or results.scores[name]
    sentences = [
        _skill(name, row),
        _off_scale(results.scores[name]),
        _distance(row, rows),
        _effects(results.scores[name]),
        _gain(results, name),
    ]
    return [sentence for sentence in sentences if sentence]


def _skill(name: str, row: TableRow | Scores) -> str:
    skill = row.skill[MAIN].corrected if MAIN in row.skill else Estimate(value=None)
    if skill.value is None:
        return f"No skill can be given for {name}: {skill.reason or 'it was not computed'}."
    low, high = skill.interval or (None, None)
    spread = "" if low is None else f"; 95% interval {num(low, 2)} to {num(high, 2)}{_over(skill)}"
    sure = f" (skill {num(skill.value, 2)}{spread})"
    few = f" {FEW}" if skill.studies and skill.studies < FEW_STUDIES else ""
    if skill.value <= 0:
        return f"{name} does no better than a uniform guess{sure}.{few}"
    if low is not None and high is not None and low <= 1 <= high and skill.value > 0.9:
        return f"{name} can't be told from a perfect model{sure}.{few}"
    doubtful = low is not None and low <= 0
    doubt = " The interval includes 0, so it may be no better than a guess." if doubtful else ""
    way = "of the way from a uniform guess to a perfect model"
    return f"{name} goes {percent(skill.value)} {way}{sure}.{doubt}{few}"


def _over(skill: Estimate) -> str:
    """What the interval is over."""
    if not skill.studies:
        return ""
    studies = f"{skill.studies} {'study' if skill.studies == 1 else 'studies'}"
    return f" over {studies}" if skill.over == "studies" else f" over the people of {studies}"


def _off_scale(scores: Scores) -> str:
    """A warning where most of a model's probability is no answer at all."""
    mass = scores.parsing.off_scale_mass
    if mass is None or mass <= MUCH:
        return ""
    return (
        f"But {percent(mass, 1)} of its probability lies off the answer scales: it mostly doesn't answer as "
        "asked, and only the rest is scored."
    )


def _distance(row: TableRow | Scores, rows: dict[str, TableRow]) -> str:
    distance = _main(row)
    if distance is None:
        return ""
    values = {words: _main(rows[key]) for key, words in REFERENCES.items() if key in rows}
    others = [f"{words} {num(value)}" for words, value in values.items() if value is not None]
    points = f" ({num(6 * distance, 1)} points, if that is 1 to 7)"
    text = f"Its answer distributions lie {num(distance)} of the observed answer range{points} from people's"
    return f"{text}; {', '.join(others)} away." if others else f"{text}."


def _main(row: TableRow | Scores) -> float | None:
    return row.metrics[MAIN].value if MAIN in row.metrics else None


def _effects(scores: Scores) -> str:
    if scores.effects is None:
        return ""
    model, half = scores.effects.model, scores.effects.half_sample
    sign, control = (_value(who.get("sign_agreement_clear")) for who in (model, half))
    if sign is None or scores.effects.clear < FEWEST_CLEAR:
        return ""
    text = f"Where a treatment clearly moves people, it gets the direction right {percent(sign)} of the time"
    if control is not None:
        text += f" (one half of the people predicting the other: {percent(control)})"
    size = _value(model.get("magnitude_ratio"))
    if size is None:
        return f"{text}."
    return f"{text}; its effects are {num(size, 1 if size >= 0.1 else 2)} times as large as people's."


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


def _gain(results: Results, name: str) -> str:
    """How the model compares with its own base model, from the paired comparison."""
    base = f"{name.rpartition('-')[0]}-base"
    for one in results.comparison.differences if results.comparison else ():
        if one.metric == MAIN and {one.a, one.b} == {name, base} and one.value is not None:
            nearer = (one.value > 0) == (one.b == name)  # the base's distance is the larger one
            sign = 1 if one.value > 0 else -1
            ends = sorted(sign * end for end in one.interval or ())
            spread = f" (95% interval {num(ends[0])} to {num(ends[1])})" if ends else ""
            sure = "" if ends and ends[0] > 0 else ", which may be chance"
            word = "nearer to" if nearer else "farther from"
            return f"Fine-tuning took it {num(abs(one.value))} {word} people than {base}{spread}{sure}."
    return ""
