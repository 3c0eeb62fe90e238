"""GPU figures, prices and assumptions of configs/gpus.yaml, and time and money in words."""

from common.errors import Refusal
from common.paths import configs
from common.readers import read_yaml


def read_gpu(name: str) -> tuple[dict[str, float], dict[str, float]]:
    """(figures of the GPU, assumptions) from configs/gpus.yaml."""
    figures = read_yaml(configs() / "gpus.yaml", "it comes with the project")[0]
    if name not in figures["gpus"]:
        names = ", ".join(figures["gpus"])
        raise Refusal(f"unknown GPU={name}; choose one of {names}, or add it to configs/gpus.yaml")
    return figures["gpus"][name], figures["assumptions"]


def hours_in_words(hours: float) -> str:
    """Hours, or minutes below one."""
    if hours * 60 < 1:
        return "less than a minute"
    return f"{hours:,.1f} hours" if hours >= 1 else f"{hours * 60:,.1f} minutes"


def dollars_in_words(dollars: float) -> str:
    """Dollars, with cents below ten."""
    if dollars < 0.01:
        return "less than 0.01 $"
    return f"{dollars:,.0f} $" if dollars >= 10 else f"{dollars:,.2f} $"
