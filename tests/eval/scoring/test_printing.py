"""The leader table as text."""

from eval.scoring.printing import leader_table
from eval.scoring.record_parts import Estimate, TableRow


def test_a_control_that_no_cell_has_is_named_below_the_table_and_one_with_a_value_stays() -> None:
    values = {"tiny": None, "pooled_others": 0.25, "training_marginal": None}
    table = [
        TableRow(
            name=name, kind="model" if name == "tiny" else "control", mode=None, skill={},
            metrics={"wasserstein_observed": Estimate(value=value)},
        )
        for name, value in values.items()
    ]  # fmt: skip
    printed = leader_table(table, "wasserstein_observed", ["12 rows"])
    assert [row[0] for row in printed.rows] == ["tiny", "pooled_others"]
    assert printed.notes == [
        "12 rows", "left out, because no cell has the answers that it takes: training_marginal",
    ]  # fmt: skip
