"""Profiles of a conjoint: what can be drawn, how often, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import Refusal
from common.experiment import load_experiment, make_experiment

GOOD = """\
profiles: 2
attributes:
  job: [janitor, nurse, doctor]
  school: {none: no schooling, degree: a degree}
  sex: [woman, man]
forbidden:
  - {job: doctor, school: none}
outcomes:
  choice: {question: Which one}
design: {people: 100}
"""


def test_forbidden_combinations_are_never_drawn_and_all_others_equally_often():
    experiment = make_experiment(
        {"profiles": 2, "attributes": {"a": ["x", "y", "z"], "b": ["u", "v"], "c": ["p", "q"]},
         "forbidden": [{"a": ["y", "z"], "b": "v"}], "outcomes": {"o": {"question": "Which?"}},
         "design": {"people": 10}}, "e",
    )  # fmt: skip
    drawn = experiment.profiles.draw(np.random.default_rng(0), (40_000,))
    profiles, count = np.unique(drawn, axis=0, return_counts=True)
    assert len(profiles) == 8 and not any(a in (1, 2) and b == 1 for a, b, _ in profiles.tolist())
    assert count == pytest.approx(np.full(8, 5000), rel=0.05)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_whatever_is_forbidden_no_drawn_profile_has_it(data):
    attributes = {name: ["0", "1", "2"] for name in "abcd"}
    levels = st.lists(st.sampled_from("12"), min_size=1, max_size=2, unique=True)
    rule = st.dictionaries(st.sampled_from("abcd"), levels, min_size=2, max_size=3)
    forbidden = data.draw(st.lists(rule, max_size=3))
    experiment = make_experiment(
        {"profiles": 2, "attributes": attributes, "forbidden": forbidden,
         "outcomes": {"o": {"question": "Which?"}}, "design": {"people": 10}}, "e",
    )  # fmt: skip
    for profile in experiment.profiles.draw(np.random.default_rng(1), (200,)).tolist():
        words = dict(zip("abcd", map(str, profile), strict=True))
        assert not any(all(words[name] in level for name, level in one.items()) for one in forbidden)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("job: doctor", "jop: doctor", 7, "did you mean `job`"),
        ("job: doctor", "job: docter", 7, "did you mean `doctor`"),
        (", school: none", "", 7, "two attributes or more"),
        ("job: doctor,", "job: [janitor, nurse, doctor],", 6, "every profile with school: none is forbidden"),
        ("sex: [woman, man]", "sex: [woman]", 5, "two or more levels"),
        ("profiles: 2", "profiles: 3", 1, "2"),
        ("profiles: 2\n", "", 1, "add `profiles: 2`"),
        ("profiles: 2", "profiles: 2\nfactors: {a: [x, y]}", 2, "no factors"),
        ("people: 100", "people: 100, kind: between", 10, "leave kind out"),
        ("people: 100", "people_per_arm: 100", 10, "needs people"),
        ("people: 100", "people: 100, counterbalance_labels: true", 10, "at random already"),
        ("Which one}", "Which one, scale: {low: 1, high: 7}}", 9, "leave `scale` out"),
        ("Which one}", '"Which {one}"}', 9, "nothing fills the placeholder {one}"),
    ],
)
def test_a_mistake_is_refused_with_its_line(tmp_path, old, new, line, message):
    assert old in GOOD
    (tmp_path / "c.yaml").write_text(GOOD.replace(old, new, 1))
    with pytest.raises(Refusal) as refusal:
        load_experiment(tmp_path / "c.yaml")
    assert f"c.yaml line {line}:" in str(refusal.value)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


def test_profiles_stand_in_one_text_where_the_vignette_puts_them_or_after_it(tmp_path):
    (tmp_path / "c.yaml").write_text(GOOD)
    profiles = load_experiment(tmp_path / "c.yaml").profiles
    text = profiles.text([(2, 1, 0), (0, 0, 1)], ["A", "B"], [1, 0, 2])
    assert text == (
        "A\n- school: a degree\n- job: doctor\n- sex: woman\n\n"
        "B\n- school: no schooling\n- job: janitor\n- sex: man"
    )
    (tmp_path / "c.yaml").write_text(f'vignette: "Look: {{profiles}} Well?"\n{GOOD}')
    assert load_experiment(tmp_path / "c.yaml").file.vignette == "Look: {profiles} Well?"
