"""Fetch SocSci210 from the Hugging Face hub at a pinned revision, with its mapping files.

    socrates data fetch [--repo socratesft/SocSci210] [--revision SHA] [--out data/socsci210/source]

Streams to disk, so memory stays small whatever a shard's size; goes on where a broken download
stopped; verifies every file against the sums that the hub states for the revision; writes
`fetched.json` last, so its existence means that the data set is whole. HF_ENDPOINT names another
hub (a mirror), HF_TOKEN is used if it is set.
"""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm import tqdm

from common.errors import Refusal
from common.files import fingerprint, sha256_file, write_json
from common.paths import source_dir
from common.readers import read_json
from common.step import Step, describe

REPO = "socratesft/SocSci210"
REVISION = "048481111a4425ed83dc0eacf15f8431f252b21a"
PATTERNS = ["data/*.parquet", "metadata/*.json"]
MAPPINGS = ("participant_mapping.json", "task_mapping.json", "condition_mapping.json")
ELSEWHERE = "or give DATA=<folder> with a copy downloaded elsewhere (data/*.parquet, metadata/*.json)"


@dataclass(frozen=True)
class Fetched:
    """A data set from the hub, on this machine. new: it was fetched now, not before."""

    folder: Path
    revision: str
    files: int
    new: bool

    def __str__(self) -> str:
        if self.new:
            return f"{self.folder}: {self.files} files fetched and verified"
        return f"{self.folder}: nothing to do, revision {self.revision[:12]} is here and verified"


def fetch(repo: str = REPO, revision: str = REVISION, out: Path | None = None) -> Fetched:
    """Download `repo` at `revision` into `out` (data/socsci210/source) and verify every file.

    What is here already is kept. Raises `Refusal` when the hub can't be reached, the repository or revision
    doesn't exist, files are missing from it, or a file's bytes aren't those that the hub states.
    """
    out = out or source_dir("socsci210")
    with Step(out / "fetched.json", fingerprint([repo, revision])) as step:
        new = not step.done
        if new:
            step.begin()
            files = describe(out, _download(repo, revision, out))
            write_json(
                step.record, {"inputs": step.inputs, "repo": repo, "revision": revision, "files": files}
            )
        return Fetched(out, revision, len(read_json(step.record, "run the same command again")["files"]), new)


def _download(repo: str, revision: str, out: Path) -> list[str]:
    """The names of the data set's files, once they are here and verified."""
    expected = _expected_files(repo, revision)
    print(f"fetching {repo} at {revision[:12]} (about 1.4 GB) into {out}", file=sys.stderr)
    try:
        snapshot_download(
            repo, repo_type="dataset", revision=revision, local_dir=out, allow_patterns=PATTERNS
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, httpx.HTTPError) as error:
        raise Refusal(
            f"the download broke off ({_short(error)}); run the same command to go on where it stopped"
        ) from None
    for name, info in tqdm(expected.items(), "verifying", disable=None):
        _verify(out / name, info)
    for stale in (*out.glob("data/*.parquet"), *out.glob("metadata/*.json")):
        if str(stale.relative_to(out)) not in expected:
            stale.unlink()  # left by another revision: mixed shards would be silently read together
    return sorted(expected)


def _expected_files(repo: str, revision: str) -> dict[str, Any]:
    """The data set's files at the revision, with the sizes and sums that the hub states."""
    try:
        info = HfApi().dataset_info(repo, revision=revision, files_metadata=True)
    except OfflineModeIsEnabled:
        raise Refusal(f"HF_HUB_OFFLINE is set, so {repo} can't be fetched; unset it, {ELSEWHERE}") from None
    except GatedRepoError:
        raise Refusal(f"{repo} asks for consent; accept its terms on its page and set HF_TOKEN") from None
    except RevisionNotFoundError:
        raise Refusal(f"{repo} has no revision {revision}; give another with --revision") from None
    except RepositoryNotFoundError:
        raise Refusal(f"the hub has no data set {repo} (or it is private: set HF_TOKEN)") from None
    except (HfHubHTTPError, httpx.HTTPError) as error:
        raise Refusal(f"the hub can't be reached ({_short(error)}); check the network, {ELSEWHERE}") from None
    files = {
        file.rfilename: file
        for file in info.siblings or []
        if any(Path(file.rfilename).match(pattern) for pattern in PATTERNS)
    }
    missing = [name for name in MAPPINGS if f"metadata/{name}" not in files]
    if missing or not any(name.endswith(".parquet") for name in files):
        raise Refusal(
            f"{repo} at {revision} lacks {', '.join(missing) or 'its shards'}; give another --revision"
        )
    return files


def _verify(path: Path, info: Any) -> None:
    """Refuse a file that isn't what the hub states (LFS: SHA-256; small files: git's blob id)."""
    if not path.is_file():
        raise Refusal(f"{path} did not arrive; run the same command again")
    good = sha256_file(path) == info.lfs.sha256 if info.lfs else _git_blob_id(path) == info.blob_id
    if not good:
        path.unlink()
        raise Refusal(
            f"{path} is damaged (its sum isn't the hub's) and was removed; run the same command again"
        )


def _git_blob_id(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
