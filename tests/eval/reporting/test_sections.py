"""What of the scores becomes rows of the page's tables."""

from eval.reporting.effects import effect_section
from eval.reporting.sections import leader_section, time_rows
from eval.scoring.record_parts import ByTime, Era, Estimate, MetaAnalysis


def test_slopes_of_studies_stand_below_the_statistics_of_effects(results):
    meta = MetaAnalysis(studies=6, slope=0.8, low=0.5, high=1.1, new_low=0.1, new_high=1.8)
    for name, scores in list(results.scores.items()):
        effects = scores.effects.model_copy(update={"meta": meta})
        results.scores[name] = scores.model_copy(update={"effects": effects})
    mean, new = effect_section(results)["rows"][-2:]
    model = next(key for key in mean if key not in ("name", "half"))
    assert (mean[model]["text"], mean[model]["note"]) == ("0.80", "0.50 to 1.10")
    assert new[model]["text"] == "0.10 to 1.80"


def test_scores_before_and_after_the_end_of_training_are_shown_where_studies_have_dates(results):
    assert time_rows(results) == []
    eras = {side: Era(studies=3, metrics={"crps": Estimate(value=0.1)}) for side in ("before", "after")}
    name, scores = next(iter(results.scores.items()))
    by_time = ByTime(cut="2023-03-31", undated=0, difference={"crps": Estimate(value=0.05)}, **eras)
    results.scores[name] = scores.model_copy(update={"by_time": by_time})
    (row,) = time_rows(results)
    assert row["name"] == name and row["cut"] == "2023-03-31"
    assert row["before"]["text"] == "0.100" and row["difference"]["text"] == "0.050"


def test_a_difference_says_within_what_two_models_are_alike(results):
    judged = [one["p_equivalent"] for one in leader_section(results)["differences"]]
    assert any(one["text"] and one["note"].startswith("within") for one in judged)
