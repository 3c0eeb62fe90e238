"""The plan's memory and throughput against published measurements of 7B and 8B training."""

import json
from functools import cache
from pathlib import Path

import pytest
import yaml

from common.gpus import read_gpu
from scripts.training import memory

TABLE = yaml.safe_load(Path(__file__).with_name("published_peaks.yaml").read_text(encoding="utf-8"))
CHECKED = [case for case in TABLE["cases"] if "apart" not in case]


def recipe_of(case):
    return TABLE["recipes"][case["recipe"]] | {"enable_liger_kernel": case.get("liger", False)}


@cache
def architecture(model, rank, target):
    """An architecture from the table, read as a config.json is."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_text(json.dumps(TABLE["models"][model]))
        return memory.architecture(path, rank, target)


def arch_of(case):
    recipe = recipe_of(case)
    return architecture(case["model"], recipe.get("lora_rank", 0), recipe.get("lora_target", "all"))


def planned(case):
    """GiB on one GPU as the source counts them."""
    setting, gpus = case.get("setting", "no ZeRO"), case.get("gpus", 1)
    parts = memory.memory(arch_of(case), recipe_of(case), setting, gpus, case["rows"], case["length"])
    _, assumed = read_gpu("a100-80gb")
    return sum(parts.values()) / 2**30 / (assumed["free_share"] if case["counted"] == "device" else 1)


@pytest.mark.parametrize("case", CHECKED, ids=[f"{c['source']}: {c['name']}" for c in CHECKED])
def test_a_published_peak_is_planned_within_15_percent(case):
    assert planned(case) == pytest.approx(case["gib"], rel=0.15)


def test_published_throughputs_reach_the_share_of_the_peak_that_a_plan_assumes():
    """A plan is rather too long than too short: real runs reach 35% or more, and none more than the peak."""
    gpu_of = {name: read_gpu(name)[0] for name in ("a100-80gb", "rtx4090-24gb")}
    timed = [case for case in CHECKED if "speed" in case]
    shares = [
        memory.flops(arch_of(case), recipe_of(case), case["speed"], case["length"])
        / gpu_of[case["gpu"]]["bf16_tflops"] / 1e12
        for case in timed
    ]  # fmt: skip
    assert len(timed) >= 8 and min(shares) >= 0.35 and max(shares) < 1


def test_a_case_apart_says_why_and_what_is_checked_covers_the_ways_of_training():
    assert all(len(case["apart"]) > 30 for case in TABLE["cases"] if "apart" in case)
    assert {case["recipe"] for case in CHECKED} >= {"full", "lora", "qlora", "lora64", "zero3"}
    assert any(case.get("gpus", 1) > 1 and case["recipe"] == "lora64" for case in CHECKED)
