"""configs/slurm/eval.sbatch with a cluster of shell scripts: servers, then the prediction, then scores."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "configs/slurm/eval.sbatch"
PYTHON = """case "$1 $2" in
  -c*path*) echo "${{FOUND:-owner/model@abc}}"; exit;;
  -c*) echo the-name; exit;;
esac
echo "$@" >> calls; grep tokenizer "${{13:-/dev/null}}" >> calls; exit 0"""
FAKES = {
    ".venv/bin/python": PYTHON.format(),
    "bin/srun": 'while [[ $1 == --n* ]]; do shift; done; exec "$@"',
    "bin/scontrol": "echo one; echo two",
    "bin/vllm": 'echo "vllm $@" >> calls; touch ready; exec sleep 30',
    "bin/curl": '[ -e ready ] && echo "asked ${@: -1}" >> calls',
}


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    for name, text in FAKES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/bash\n{text}\n")
        file.chmod(0o755)
    (tmp_path / "configs/eval").mkdir(parents=True)
    (tmp_path / "configs/eval/default.yaml").write_text("server:\n  tokenizer: null\n")
    return tmp_path


def submit(cluster: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PATH": f"{cluster}/bin:{os.environ['PATH']}", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "[one-two]",
        "SLURM_GPUS_ON_NODE": "8", "VLLM": "vllm", "POLL_S": "0.1", "WAIT_S": "20", "TENSOR_PARALLEL": "2",
    }  # fmt: skip
    command = ["bash", SCRIPT, "the-model", "mine", "study", "--max-rows", "7"]
    return subprocess.run(command, cwd=cluster, env=environment, capture_output=True, text=True, timeout=60)


def test_the_servers_are_healthy_before_one_prediction_goes_through_all_of_them(cluster: Path) -> None:
    done = submit(cluster)
    assert done.returncode == 0, done.stderr
    calls = (cluster / "calls").read_text().splitlines()
    assert calls[0].startswith("vllm serve owner/model --revision abc --served-model-name the-name")
    assert "--tensor-parallel-size 2 --data-parallel-size 4" in calls[0]
    assert calls[1:3] == [f"asked http://{host}:8000/health" for host in ("one", "two")]
    assert "socrates predict --model the-name --name the-name --data mine --split study" in calls[3]
    assert calls[3].endswith("--url http://one:8000/v1,http://two:8000/v1 --max-rows 7")
    assert calls[4] == "  tokenizer: owner/model@abc"
    assert calls[5] == "-m socrates score --data mine --split study"


def test_servers_that_end_before_they_are_ready_end_the_job(cluster: Path) -> None:
    (cluster / "bin/vllm").write_text("#!/bin/bash\nexit 1\n")
    done = submit(cluster)
    assert done.returncode == 1 and "ended before they were ready" in done.stderr
    assert not (cluster / "calls").exists()


def test_an_adapter_without_its_base_is_refused_with_the_command_that_merges_it(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = cluster / "outputs/mine/study/small/sft-lora"
    run.mkdir(parents=True)
    (run / "adapter_config.json").write_text("{}")
    monkeypatch.setenv("FOUND", "outputs/mine/study/small/sft-lora")
    done = submit(cluster)
    assert done.returncode == 1
    assert "make export MODEL=small DATA=mine SPLIT=study RUN=sft-lora OUT=my-model" in done.stderr
    assert not (cluster / "calls").exists()
