"""Packages and logins that a recipe needs, missed before the start instead of in it."""

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import Refusal
from scripts.training.recipe import Recipe
from scripts.training.rules import GPU_ONLY_STATES, REPORTERS, Facts


class Package(NamedTuple):
    """A package that a recipe needs where `needed`, by the name it is imported under.

    key: the setting for which LLaMA-Factory's parser looks for the package, if it does.
    """

    needed: Callable[[Facts], Any]
    module: str
    install: str
    key: str = ""


def _uses(key: str, module: str, install: str) -> Package:
    return Package(lambda facts: facts.get(key), module, install, key)


METHODS = {"bnb": "bitsandbytes", "hqq": "hqq", "eetq": "eetq"}  # of quantisation, and their packages


def _quantises(method: str, module: str) -> Package:
    return Package(
        lambda facts: facts.get("quantization_bit") and facts.get("quantization_method", "bnb") == method,
        module,
        module,
    )


# What loading a model takes that was quantised beforehand (its config.json says how), as LLaMA-Factory and
# transformers ask for it: AWQ both, each its own
LOADERS = {
    "gptq": ("gptqmodel>=2.0.0", "optimum"), "awq": ("autoawq", "gptqmodel>=2.0.0"),
    "aqlm": ("aqlm>=1.1.0",), "bitsandbytes": ("bitsandbytes",), "hqq": ("hqq",), "torchao": ("torchao",),
    "compressed-tensors": ("compressed-tensors",), "auto-round": ("auto-round>=0.5",),
}  # fmt: skip
MODULES = {"autoawq": "awq"}  # imported under a name of their own


def _loads(method: str, install: str) -> Package:
    name = install.split(">=")[0]
    module = MODULES.get(name, name.replace("-", "_"))
    return Package(lambda facts: facts.prequantised == method, module, install)


PACKAGES = (
    *(_loads(method, install) for method, names in LOADERS.items() for install in names),
    _uses("use_galore", "galore_torch", "galore-torch"),
    _uses("use_apollo", "apollo_torch", "apollo-torch"),
    _uses("use_badam", "badam", "badam>=1.2.1"),
    _uses("use_adam_mini", "adam_mini", "adam-mini"),
    _uses("enable_liger_kernel", "liger_kernel", "liger-kernel"),
    _uses("use_unsloth", "unsloth", "unsloth"),
    _uses("use_swanlab", "swanlab", "swanlab"),
    _uses("mixture_of_depths", "MoD", "mixture-of-depth>=1.1.6"),
    _uses("deepspeed", "deepspeed", "deepspeed"),
    _uses("use_mca", "mcore_adapter", "mcore-adapter"),
    _uses("use_hyper_parallel", "hyper_parallel", "hyper_parallel"),
    _uses("use_kt", "kt_kernel", "kt-kernel"),
    *(_quantises(method, module) for method, module in METHODS.items()),
    Package(lambda f: f.get("fp8") and f.get("fp8_backend", "auto") != "te", "torchao", "torchao"),
    Package(
        lambda f: any(mark in f.optimizer for mark in GPU_ONLY_STATES) and "torchao" not in f.optimizer,
        "bitsandbytes",
        "bitsandbytes",
    ),
)


def missing_packages(recipe: Recipe) -> Iterator[str]:
    """What the recipe needs and this machine hasn't installed, with the line that installs it."""
    facts = Facts(recipe)
    reporters = [Package(bool, REPORTERS[name], name) for name in facts.reporters if name in REPORTERS]
    for package in (*(one for one in PACKAGES if one.needed(facts)), *reporters):
        if importlib.util.find_spec(package.module) is None:
            yield f"needs {package.install}, which isn't installed; pip install '{package.install}'"
    if "wandb" in facts.reporters and not os.environ.get("WANDB_MODE") and not _wandb_login():
        yield "report_to: wandb needs a login; export WANDB_API_KEY, or WANDB_MODE=offline"


def _wandb_login() -> bool:
    netrc = Path(os.path.expanduser("~/.netrc"))  # noqa: PTH111 (there may be no home)
    login = netrc.is_file() and "wandb" in netrc.read_text(encoding="utf-8", errors="replace")
    return login or bool(os.environ.get("WANDB_API_KEY"))


def refuse_missing(recipe: Recipe, path: Path | str) -> None:
    """Raise `Refusal` for the first package or login that the recipe needs and this machine lacks."""
    for problem in missing_packages(recipe):
        raise Refusal(f"{path}: {problem}")
