"""Simulated people: whole persons, margins, quotas."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import Refusal
from eval.simulation.population import (
    PopulationSpec,
    draw_people,
    in_category,
    participants,
    rake,
    read_people,
)


def pool_of(size: int = 400, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, size)
    return pl.DataFrame(
        {
            "person": [f"s/{i}" for i in range(size)],
            "age": age,
            "gender": rng.choice(["Female", "Male"], size),
            # a field that another one decides: a draw field by field would break it
            "employment": np.where(age > 65, "Retired", "Working"),
            "party_id": [
                (None, "Democrat", "Independent", "Republican")[k] for k in rng.integers(0, 4, size)
            ],
        }
    )


@settings(deadline=None, max_examples=25)
@given(
    female=st.floats(0.2, 0.8), old=st.floats(0.1, 0.5), seed=st.integers(0, 10)
)  # fmt: skip
def test_raked_weights_reproduce_every_margin(female, old, seed):
    pool = pool_of(300, seed)
    margins = {"gender": {"Female": female, "Male": 1 - female}, "age": {"18-64": 1 - old, "65+": old}}
    weight = rake(pool, margins, np.ones(len(pool)))
    assert weight.sum() == pytest.approx(len(pool))
    assert weight[(pool["gender"] == "Female").to_numpy()].sum() / weight.sum() == pytest.approx(
        female, abs=1e-4
    )
    assert weight[(pool["age"] >= 65).to_numpy()].sum() / weight.sum() == pytest.approx(old, abs=1e-4)


@settings(deadline=None, max_examples=25)
@given(count=st.integers(10, 900), seed=st.integers(0, 5))
def test_people_are_drawn_whole_and_never_mixed_field_by_field(count, seed):
    pool = pool_of()
    drawn = draw_people(pool, PopulationSpec(people=count), seed).frame
    assert len(drawn) == count
    assert drawn.drop("weight").join(pool, on=pool.columns, how="anti", nulls_equal=True).is_empty()
    if count <= len(pool):
        assert drawn["person"].n_unique() == count


def test_the_same_seed_draws_the_same_people():
    one, two = (draw_people(pool_of(), PopulationSpec(people=50), 3).frame for _ in range(2))
    assert one.equals(two)
    assert not one.equals(draw_people(pool_of(), PopulationSpec(people=50), 4).frame)


def test_drawing_more_people_than_there_are_is_said():
    people = draw_people(pool_of(20), PopulationSpec(people=50), 0)
    assert "more than once" in people.notes[0]


def test_quotas_are_met_exactly():
    spec = PopulationSpec.model_validate(
        {
            "quotas": [
                {"people": 30, "who": {"gender": "Female", "age": ["18-39"]}},
                {"people": 20, "who": {"gender": "Male"}},
            ]
        }
    )
    frame = draw_people(pool_of(), spec, 0).frame
    young_women = frame.filter((pl.col("gender") == "Female") & (pl.col("age") < 40))
    assert (len(young_women), len(frame)) == (30, 50)


def test_people_outside_where_and_without_a_margin_field_are_left_out():
    spec = PopulationSpec.model_validate(
        {
            "people": 60,
            "where": {"age": "18-49"},
            "margins": {"party_id": {"Democrat": 0.5, "Republican": 0.5}},
        }
    )
    people = draw_people(pool_of(), spec, 0)
    assert people.frame["age"].max() < 50
    assert set(people.frame["party_id"]) == {"Democrat", "Republican"}
    assert "left out" in people.notes[0]
    assert people.effective_size <= 60


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"where": {"gendre": "Female"}}, "nobody has a field 'gendre'"),
        ({"where": {"gender": "female"}}, "there are 'Female', 'Male'"),
        ({"margins": {"gender": {"Female": 0.9, "Male": 0.9}}}, "add up to 1"),
        ({"margins": {"age": {"18-40": 0.5, "40+": 0.5}}}, "overlaps"),
        ({"margins": {"gender": {"Female": 0.4, "Male": 0.3, "Other": 0.3}}}, "nobody drawn is 'Other'"),
        ({"people": 100, "quotas": [{"people": 5, "who": {"gender": "Male"}}]}, "remove people"),
    ],
)
def test_a_population_that_cannot_be_is_refused(spec, message):
    with pytest.raises(Refusal, match=message):
        draw_people(pool_of(), PopulationSpec.model_validate(spec), 0)


def test_margins_that_contradict_each_other_are_refused():
    pool = pool_of().with_columns(pl.col("gender").alias("ethnicity"))
    margins = {"gender": {"Female": 0.9, "Male": 0.1}, "ethnicity": {"Female": 0.1, "Male": 0.9}}
    with pytest.raises(Refusal, match="no weights meet"):
        rake(pool, margins, np.ones(len(pool)))


def test_a_range_is_read_as_one_unless_it_is_somebodys_value():
    assert in_category(pl.Series([17, 18, 34, None]), "18-34").tolist() == [False, True, True, False]
    assert in_category(pl.Series(["18-34", "20"]), "18-34").tolist() == [True, False]
    assert in_category(pl.Series(["64", "65", "x"]), "65+").tolist() == [False, True, False]


def test_every_participant_of_a_data_set_stands_there_once(tmp_path):
    row = {"study_id": "a", "demographic": {"age": 30, "gender": "Male"}}
    rows = pl.DataFrame([row | {"participant": 1}, row | {"participant": 1}, row | {"participant": 2}])
    rows.write_parquet(tmp_path / "eval.parquet")
    assert participants(tmp_path / "eval.parquet", "")["person"].to_list() == ["a/1", "a/2"]


def test_a_csv_of_people_is_read_and_a_bad_one_refused(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("age,gender,weight,city\n30,Female,2,Bonn\n40,,1,Köln\n")
    frame = read_people(path)
    assert frame.columns == ["person", "age", "gender", "weight"]
    assert frame["gender"].to_list() == ["Female", None]
    path.write_text("city\nBonn\n")
    with pytest.raises(Refusal, match="describes nobody"):
        read_people(path)
    path.write_text("age,weight\n30,-1\n")
    with pytest.raises(Refusal, match="above 0"):
        read_people(path)
