import pytest

from common.errors import Refusal
from scripts.training.request import Machines, RunRequest, Selection


def test_the_machines_variables_are_the_defaults(monkeypatch):
    variables = {"GPUS": "4", "NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "host", "MASTER_PORT": "7"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Machines.from_environment() == Machines(4, 2, 1, "host", 7)
    assert Machines.from_environment(gpus=8, nnodes=3) == Machines(8, 3, 1, "host", 7)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("GPUS", "0"), ("GPUS", "-1"), ("GPUS", "two"), ("NNODES", "0"), ("NODE_RANK", "1"), ("NODE_RANK", "-1"),
     ("MASTER_PORT", "70000")],
)  # fmt: skip
def test_a_number_of_machines_that_can_not_be_is_refused_by_its_variable(variable, value, monkeypatch):
    monkeypatch.setenv(variable, value)
    with pytest.raises(Refusal, match=f"{variable}={value}"):
        Machines.from_environment()


def test_a_negative_patience_is_refused():
    with pytest.raises(Refusal, match="PATIENCE=-1"):
        Selection(patience=-1)
    with pytest.raises(Refusal, match="at least 1"):
        Selection(rows=0)


def test_a_recipe_of_another_stage_is_refused():
    with pytest.raises(Refusal, match="STAGE=dpo"):
        _ = RunRequest("sft", recipe="configs/llama3-8b/dpo.yaml").resolved


@pytest.mark.parametrize("stage", ["rm", "ppo", "sfft"])
def test_a_stage_that_is_not_trained_here_is_refused_by_name(stage):
    with pytest.raises(Refusal, match=f"STAGE={stage}"):
        _ = RunRequest(stage).resolved


def test_settings_for_one_run_give_it_a_name_of_its_own():
    assert RunRequest("sft").folder.name == "sft"
    assert RunRequest("sft", settings={"learning_rate": 2e-5}).folder.name == "sft-learning_rate-2e-05"
    assert RunRequest("sft", settings={"logging_steps": 5}).folder.name == "sft"  # the same model
    assert RunRequest("sft", settings={"output_dir": "fast", "seed": 3}).folder.name == "fast"
    many = {"learning_rate": 2e-5, "num_train_epochs": 3, "weight_decay": 0.01, "lr_scheduler_type": "linear"}
    name = RunRequest("sft", settings=many).folder.name
    assert len(name) < 20 and name != RunRequest("sft", settings=many | {"seed": 2}).folder.name


def test_what_is_set_aside_is_told():
    notes = RunRequest("sft", settings={"trust_remote_code": True, "overwrite_output_dir": True}).notes
    assert [note.split(":")[0] for note in notes] == ["overwrite_output_dir", "trust_remote_code"]
