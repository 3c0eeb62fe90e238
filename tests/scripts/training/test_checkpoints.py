import pytest

from scripts.training import checkpoints


def make(run, step, whole=True):
    checkpoint = run / f"checkpoint-{step}"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    (checkpoint / "optimizer.pt").write_bytes(b"states")
    if whole:
        checkpoints.mark_whole(checkpoint)
    return checkpoint


def test_the_last_whole_checkpoint_is_the_one_with_the_highest_step(tmp_path):
    for step in (100, 20, 3):
        make(tmp_path, step)
    assert checkpoints.last_whole(tmp_path) == (tmp_path / "checkpoint-100", [])


@pytest.mark.parametrize("tear", ["unmarked", "short", "gone", "broken mark"])
def test_a_torn_checkpoint_is_skipped_by_name_and_kept_aside(tear, tmp_path):
    make(tmp_path, 10)
    torn = make(tmp_path, 20, whole=tear != "unmarked")
    if tear == "short":
        (torn / "model.safetensors").write_bytes(b"wei")
    if tear == "gone":
        (torn / "optimizer.pt").unlink()
    if tear == "broken mark":
        (torn / checkpoints.MARK).write_text('{"model')
    assert checkpoints.last_whole(tmp_path) == (tmp_path / "checkpoint-10", ["checkpoint-20"])
    assert (tmp_path / "torn-checkpoint-20").is_dir() and not torn.exists()


def test_a_run_without_a_whole_checkpoint_starts_again(tmp_path):
    make(tmp_path, 5, whole=False)
    assert checkpoints.last_whole(tmp_path) == (None, ["checkpoint-5"])
    make(tmp_path, 5, whole=False)
    assert checkpoints.last_whole(tmp_path) == (None, ["checkpoint-5"])
