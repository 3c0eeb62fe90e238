"""What every figure is called and means, in plain words: for the report, the model card and the CSV files."""

from dataclasses import dataclass

from eval.scoring import metrics


@dataclass(frozen=True)
class Term:
    """A metric's name and meaning; `better` is "low", "high", near "one", near "zero", or empty."""

    name: str
    words: str
    better: str = ""


METRICS = {key: Term(one.name, one.words, one.better) for key, one in metrics.METRICS.items()}
SKILL = Term(
    "Skill",
    "Where a model stands between a uniform guess (0) and the ceiling (1): how much of the distance that can "
    "be closed at all is closed. Below 0 it's worse than guessing. Corrected skill: 1 is what a perfect "
    "model would reach with so many people and in this prediction mode. Human skill: 1 is how near people "
    "come to people, halves brought to the model's sample size; a model that knows who answers can pass it. "
    "Raw skill: naive split halves, too easy a ceiling.",
    "high",
)
CALIBRATION = Term(
    "Calibration error (ECE)",
    "Mean gap between how sure the model is of its most probable answer and how often that answer is right.",
    "low",
)
EFFECTS = {
    "correlation": Term(
        "Correlation of effects", "Between predicted and observed differences of arms' means.", "high"
    ),
    "correlation_corrected": Term(
        "Correlation, corrected",
        "The same, corrected for the noise that finite samples put into the observed effects.",
        "high",
    ),
    "slope": Term(
        "Slope",
        "How much of a predicted effect comes true: the slope of observed on predicted effects, through the "
        "origin, corrected for the noise of the predictions. Below 1 the model over-reacts.",
        "one",
    ),
    "magnitude_ratio": Term(
        "Size of effects",
        "Predicted over observed size of effects. Above 1 the model over-reacts to treatments.",
        "one",
    ),
    "sign_agreement": Term(
        "Right direction", "Share of contrasts whose predicted direction is the observed one.", "high"
    ),
    "sign_agreement_clear": Term(
        "Right direction, clear effects",
        "The same for contrasts that are clear in people: at least 3 standard errors from zero.",
        "high",
    ),
    "rmse_range": Term(
        "Error of effects, observed range",
        "Root mean square error, in units of the range of people's answers.",
        "low",
    ),
    "rmse_std": Term(
        "Error of effects", "Root mean square error in standard deviations of people's answers.", "low"
    ),
    "rmse_std_shrunk": Term(
        "Error after shrinkage",
        "The same after a study's predictions were shrunken by the factor that suits all other studies.",
        "low",
    ),
    "coverage_90": Term(
        "Coverage of 90% intervals",
        "Share of observed effects inside the model's 90% interval. Far below 0.9: sampling error alone "
        "understates how wrong the model can be.",
    ),
    "best_arm_hit": Term(
        "Best arm found",
        "How often the arm predicted highest (or lowest) is the highest (or lowest) in people.",
        "high",
    ),
    "best_arm_chance": Term("Best arm by chance", "What picking an arm at random would get."),
    "best_arm_regret": Term(
        "Regret",
        "What choosing the arm predicted highest costs against the truly highest, in standard deviations.",
        "low",
    ),
}
CONTROLS = {
    "uniform_observed": Term(
        "Uniform guess, observed range", "Every answer between the observed ends equally likely."
    ),
    "uniform_stated": Term("Uniform guess, stated scale", "Every answer of the stated scale equally likely."),
    "pooled_others": Term(
        "People of the other arms",
        "People's answers to the same question in the study's other arms: real people, blind to it.",
    ),
    "pooled_oracle": Term(
        "People of all arms (oracle)",
        "The same, with the cell's own answers included: it has seen what it's scored on.",
    ),
    "other_outcomes": Term(
        "People's other answers", "People's answers to the study's other questions with the same scale."
    ),
    "training_marginal": Term(
        "Training answers",
        "How training people answered questions with the same scale: in the same study, where it was trained "
        "on, else in all studies.",
    ),
    "most_frequent_others": Term(
        "Most frequent answer, other arms", "Everybody gives the most frequent answer of the other arms."
    ),
    "most_frequent_oracle": Term(
        "Most frequent answer (oracle)", "Everybody gives the most frequent answer of the cell itself."
    ),
}
CEILINGS = {
    "paired": Term(
        "Ceiling of a perfect model",
        "The distance that would remain if this model's distributions were right: the noise that so many "
        "people's answers have by themselves. Corrected skill is 1 here.",
    ),
    "split_half_corrected": Term(
        "Human ceiling, split halves",
        "How near one half of the people comes to the other half, brought to the number of people and the "
        "prediction mode of the model that it stands beside.",
    ),
    "bootstrap_corrected": Term(
        "Human ceiling, bootstrap", "The same from resampled people instead of halves, its bias removed."
    ),
    "split_half_raw": Term(
        "Human ceiling, split halves (raw)",
        "Two halves as they are. Both are small, so this ceiling is too easy to pass; raw skill is 1 here.",
    ),
    "bootstrap_raw": Term("Human ceiling, bootstrap (raw)", "Resampled people as they are."),
}
OTHER = {
    "interval over studies": Term(
        "95% interval over studies",
        "Would other studies give the same figure? Found by resampling whole studies. It's the wider and the "
        "more honest one of the two.",
    ),
    "interval over people": Term(
        "95% interval over people", "Would other people in these same studies give the same figure?"
    ),
    "cell": Term(
        "Cell", "One arm of one study and one outcome: the people who saw the same condition and question."
    ),
    "average": Term(
        "Averages",
        "Cells are averaged within each study, then studies, so that large studies don't dominate.",
    ),
    "parity": Term(
        "Demographic parity difference",
        "Accuracy for the group that is predicted best minus that for the group predicted worst, by field; "
        "then the mean over fields.",
        "low",
    ),
    "p_holm": Term(
        "Corrected p-value",
        "Chance of a difference at least as large if the two were equally good, by a studentised bootstrap "
        "of studies; Holm's correction allows for the number of comparisons.",
    ),
}


def name_of(key: str) -> str:
    """The name for readers of any metric, control or ceiling; the key itself where none is known.

    A comparison writes a ceiling's prediction mode behind it: `split_half (exact)`.
    """
    kind, _, mode = key.partition(" (")
    if mode and f"{kind}_corrected" in CEILINGS:
        return f"{CEILINGS[f'{kind}_corrected'].name} ({mode}"
    for terms in (METRICS, CONTROLS, CEILINGS, EFFECTS):
        if key in terms:
            return terms[key].name
    return key
