"""A checkpoint that ZeRO has split is brought into DeepSpeed's universal form, or refused in one line.

That a run goes on from it with the losses of an undisturbed one is tested in test_launch.py.
"""

import pytest

from common.errors import Refusal
from scripts.training import universal

ZERO = {"deepspeed": {"zero_optimization": {"stage": 2}, "checkpoint": {"tag_validation": "Warn"}}}


def split(folder, processes):
    """A checkpoint as ZeRO names its files, with nothing in them."""
    state = folder / "checkpoint-6/global_step6"
    state.mkdir(parents=True)
    for rank in range(processes):
        (state / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").write_bytes(b"")
    return state.parent


def test_the_files_tell_how_many_processes_have_split_a_state(tmp_path):
    checkpoint = split(tmp_path, 2)
    assert universal.processes_of(checkpoint) == 2
    assert universal.is_split_otherwise(checkpoint, 1) and not universal.is_split_otherwise(checkpoint, 2)
    assert not universal.is_split_otherwise(tmp_path, 1)  # DDP's is whole


def test_the_configuration_is_the_recipes_own_and_loads_the_universal_form():
    config = universal.loads_universal(ZERO)
    assert config["zero_optimization"] == {"stage": 2}
    assert config["checkpoint"] == {"tag_validation": "Warn", "load_universal": True}
    assert "load_universal" not in ZERO["deepspeed"]["checkpoint"]


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"load_best_model_at_end": True}, "load_best_model_at_end"),
        ({"deepspeed": {"zero_optimization": {"stage": 3}}}, "ZeRO-3"),
    ],
)
def test_a_run_that_would_not_be_the_same_is_refused(tmp_path, changes, cause):
    with pytest.raises(Refusal, match="go on with 4 processes") as refused:
        universal.make_universal(split(tmp_path, 4), ZERO | changes, tmp_path / "log")
    assert cause in str(refused.value) and not list(tmp_path.rglob("*universal*"))


@pytest.mark.whole
def test_a_state_that_deepspeed_cannot_convert_is_refused_in_one_line(tmp_path):
    checkpoint = split(tmp_path, 2)
    with pytest.raises(Refusal, match="go on with 2 processes") as refused:
        universal.make_universal(checkpoint, ZERO, tmp_path / "train.log")
    assert "\n" not in str(refused.value) and "Traceback" in (tmp_path / "train.log").read_text()
    assert not (checkpoint / universal.MARK).exists()
