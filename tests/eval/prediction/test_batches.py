"""Plans of batches: every row once, within the budget, and with less to compute."""

from hypothesis import given
from hypothesis import strategies as st

from eval.prediction.batches import plan_batches

PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=40), max_size=40)


@given(PROMPTS, st.integers(0, 9), st.integers(20, 400), st.booleans())
def test_a_plan_holds_every_row_once_and_rebuilds_each_prompt(
    prompts: list[list[int]], extra: int, budget: int, reuse: bool
) -> None:
    plan = plan_batches(prompts, [extra] * len(prompts), budget, reuse)
    assert sorted(row for batch in plan for row in batch.rows) == list(range(len(prompts)))
    for batch in plan:
        longest = max(len(prompts[row]) for row in batch.rows)
        assert len(batch.rows) == 1 or len(batch.rows) * (longest + extra) <= budget
        assert batch.cost <= len(batch.rows) * longest
        first = prompts[batch.rows[0]]
        for row, group in zip(batch.rows, batch.group_of, strict=True):
            begin = batch.shared
            assert prompts[row][:begin] == first[:begin]
            if batch.groups:
                leader, begin = batch.groups[group]
                assert prompts[batch.rows[leader]][:begin] == prompts[row][:begin]
            assert batch.shared <= begin < len(prompts[row])


def test_people_who_answer_several_questions_are_read_once() -> None:
    persona_first = [[9] * 50 + [person] * 90 + [100 + task] * 30 for person in range(8) for task in range(7)]
    plain = sum(batch.cost for batch in plan_batches(persona_first, [0] * 56, 20_000, reuse=False))
    shared = sum(batch.cost for batch in plan_batches(persona_first, [0] * 56, 20_000))
    assert plain == 56 * 170
    assert shared < plain / 3


def test_a_question_asked_to_many_people_is_read_once() -> None:
    stimulus_first = [[7] * 600 + [person] * 120 for person in range(100)]
    plain = sum(batch.cost for batch in plan_batches(stimulus_first, [0] * 100, 80_000, reuse=False))
    shared = sum(batch.cost for batch in plan_batches(stimulus_first, [0] * 100, 80_000))
    assert shared < plain / 5
