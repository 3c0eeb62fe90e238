"""Fetch SocSci210 from the Hugging Face hub at a pinned revision, with its mapping files.

    python -m scripts.data.fetch [--repo socratesft/SocSci210] [--revision SHA] [--out data/socsci210/source]

Streams to disk, so memory stays small whatever a shard's size; goes on where a broken download
stopped; verifies every file against the sums that the hub states for the revision; writes
`fetched.json` last, so its existence means that the data set is whole. HF_ENDPOINT names another
hub (a mirror), HF_TOKEN is used if it is set.
"""

import argparse
import hashlib
import os
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

from common.errors import Refusal, run_cli
from common.files import fingerprint, sha256_file, up_to_date, write_json
from common.paths import source_dir

REPO = "socratesft/SocSci210"
REVISION = "048481111a4425ed83dc0eacf15f8431f252b21a"
PATTERNS = ["data/*.parquet", "metadata/*.json"]
MAPPINGS = ("participant_mapping.json", "task_mapping.json", "condition_mapping.json")
ELSEWHERE = "or give DATA=<folder> with a copy downloaded elsewhere (data/*.parquet, metadata/*.json)"


def fetch(repo: str, revision: str, out: Path) -> dict[str, Any]:
    """Download `repo` at `revision` into `out` and verify it; return the record of what was fetched.

    Raises `Refusal` when the hub can't be reached, the repository or revision doesn't exist, files
    are missing from it, or a file's bytes aren't those that the hub states.
    """
    expected = _expected_files(repo, revision)
    try:
        snapshot_download(
            repo, repo_type="dataset", revision=revision, local_dir=out, allow_patterns=PATTERNS
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, httpx.HTTPError) as error:
        raise Refusal(
            f"the download broke off ({_short(error)}); run the same command to go on where it stopped"
        ) from None
    sums = {name: _verified_sum(out / name, info) for name, info in tqdm(expected.items(), "verifying")}
    for stale in (*out.glob("data/*.parquet"), *out.glob("metadata/*.json")):
        if str(stale.relative_to(out)) not in expected:
            stale.unlink()  # left by another revision: mixed shards would be silently read together
    return {"repo": repo, "revision": revision, "sha256": sums}


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


def _verified_sum(path: Path, info: Any) -> str:
    """SHA-256 of the file, once it equals what the hub states (LFS: SHA-256; small files: git's blob id)."""
    if not path.is_file():
        raise Refusal(f"{path} did not arrive; run the same command again")
    found = sha256_file(path)
    good = found == info.lfs.sha256 if info.lfs else _git_blob_id(path) == info.blob_id
    if not good:
        path.unlink()
        raise Refusal(
            f"{path} is damaged (its sum isn't the hub's) and was removed; run the same command again"
        )
    return found


def _git_blob_id(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def main() -> None:
    """Read the command line and fetch, unless the record says that this revision is already here."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repo", default=REPO)
    parser.add_argument("--revision", default=os.environ.get("REVISION") or REVISION)
    parser.add_argument("--out", type=Path, default=source_dir("socsci210"))
    args = parser.parse_args()
    inputs = fingerprint([args.repo, args.revision])
    record = args.out / "fetched.json"
    if up_to_date(record, inputs):
        print(f"{args.out}: nothing to do, revision {args.revision[:12]} is here and verified")
        return
    print(f"fetching {args.repo} at {args.revision[:12]} (about 1.4 GB) into {args.out}")
    fetched = fetch(args.repo, args.revision, args.out)
    write_json(record, {"inputs": inputs, **fetched})
    print(f"{args.out}: {len(fetched['sha256'])} files fetched and verified")


if __name__ == "__main__":
    run_cli(main)
