import json

import pytest

from common.errors import Refusal
from scripts.training import checkpoints, folders


def whole_checkpoint(folder, step, last=20):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_text(f"weights of {step}")
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step, "max_steps": last}))
    checkpoints.mark_whole(path)
    return path


def start(folder, inputs="a", processes=1, deepspeed=None, restart=False):
    layout = {"processes": processes, "deepspeed": deepspeed}
    return folders.prepare(folder, inputs, layout, restart, print)


def launched(folder, inputs="a", processes=1, deepspeed=None, **arguments):
    layout = {"processes": processes, "deepspeed": deepspeed}
    record = {"inputs": inputs, "layout": layout, "arguments": arguments}
    (folder / "launch.json").write_text(json.dumps(record))


def test_the_same_run_goes_on_and_another_is_moved_aside_not_deleted(tmp_path, capsys):
    folder = tmp_path / "sft"
    checkpoint = whole_checkpoint(folder, 5)
    launched(folder)
    assert start(folder) == checkpoint
    assert start(folder, "another recipe") is None
    (aside,) = tmp_path.glob("sft.old-*")
    assert checkpoints.is_whole(aside / "checkpoint-5") and "was moved to" in capsys.readouterr().out


def test_checkpoints_of_an_unknown_run_are_not_gone_on_from(tmp_path):
    folder = tmp_path / "sft"
    whole_checkpoint(folder, 5)  # for example by llamafactory-cli: nothing says what it was trained on
    assert start(folder) is None
    assert list(tmp_path.glob("sft.old-*/checkpoint-5"))


def test_what_holds_no_weights_is_not_kept(tmp_path):
    folder = tmp_path / "sft"
    folder.mkdir()
    launched(folder)
    assert start(folder, "b") is None
    assert [path.name for path in tmp_path.iterdir()] == ["sft"] and not list(folder.iterdir())


def test_a_checkpoint_is_not_resumed_under_another_way_of_splitting(tmp_path):
    checkpoint = whole_checkpoint(tmp_path, 5)
    launched(tmp_path, processes=8, deepspeed="configs/deepspeed/zero2.json")
    for other in (None, "configs/deepspeed/zero3.json"):
        with pytest.raises(Refusal, match="under configs/deepspeed/zero2"):
            start(tmp_path, "a", 8, other)
    assert start(tmp_path, "a", 4, "configs/deepspeed/zero2.json") == checkpoint
    launched(tmp_path, processes=8)
    assert start(tmp_path, "a", 4) == checkpoint


def test_a_run_killed_after_its_last_checkpoint_is_finished_with_its_weights(tmp_path):
    assert not folders.is_last(whole_checkpoint(tmp_path, 19))
    last = whole_checkpoint(tmp_path, 20)
    launched(tmp_path)
    assert folders.is_last(last)
    folders.finish(tmp_path, last)
    assert (tmp_path / "model.safetensors").read_text() == "weights of 20"
    assert json.loads((tmp_path / "trainer_state.json").read_text())["global_step"] == 20


def test_a_run_that_keeps_the_best_checkpoint_is_finished_with_that(tmp_path):
    best, last = whole_checkpoint(tmp_path, 10), whole_checkpoint(tmp_path, 20)
    state = {"global_step": 20, "max_steps": 20, "best_model_checkpoint": str(best)}
    (last / "trainer_state.json").write_text(json.dumps(state))
    launched(tmp_path, load_best_model_at_end=True)
    folders.finish(tmp_path, last)
    assert (tmp_path / "model.safetensors").read_text() == "weights of 10"
    assert json.loads((tmp_path / "trainer_state.json").read_text())["global_step"] == 20


def test_only_four_parts_under_outputs_name_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    assert folders.is_run(Path("outputs/sample/study/tiny/sft"))
    assert not folders.is_run(Path("outputs/models/tiny")) and not folders.is_run(Path("meta-llama/Llama"))
