"""Tokenise a recipe's data sets once, on the CPU, before any GPU is taken.

    python -m scripts.training.tokens --stage sft --model tiny --data sample --split study [--recipe FILE]

Writes `outputs/tokenised/<name>-<hash>/`, which LLaMA-Factory reads through `tokenized_path`. The hash
covers everything that the tokens depend on (data, tokenizer, template, cutoff, packing, versions), so
a stale cache can't be used. The token ids are LLaMA-Factory's own: its converter, template and
processor run on every row; only the calls to the tokenizer are gathered into batches. A row longer
than `cutoff_len` is dropped and counted, never cut.
"""

import contextlib
import difflib
import importlib.metadata
import io
import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common.errors import Refusal, run_cli
from common.files import atomic_path, file_stamp, fingerprint, sha256_file, write_json
from common.readers import read_json
from scripts.training import recipe as recipes

CACHE = Path("outputs/tokenised")
CHUNK = 4 * 2**20  # bytes of JSON lines that one worker takes at a time, about 2,000 rows
SLICE = 2000  # rows of a parquet file, likewise
UNLIMITED = 10**9
# What the tokens depend on, beside the data and the tokenizer's files.
KEYS = (
    "stage", "template", "cutoff_len", "packing", "neat_packing", "train_on_prompt", "mask_history",
    "default_system", "enable_thinking", "tool_format", "max_samples", "seed",
    "eval_on_each_dataset",
)  # fmt: skip
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)


def dataset_entry(name: str) -> tuple[dict[str, Any], Path]:
    """The data set's entry in `data/dataset_info.json` and its file; a `Refusal` if one is missing."""
    remedy = "run `make data` with the same DATA and SPLIT first"
    info = read_json("data/dataset_info.json", remedy)
    if name not in info:
        raise Refusal(f"data/dataset_info.json has no data set {name!r}; {remedy}")
    file = Path("data", info[name].get("file_name", name))
    if not file.is_file():
        raise Refusal(f"{file} is missing; {remedy}")
    return info[name], file


def data_stamp(file: Path) -> Any:
    """What identifies a data file's content: its manifest's SHA-256, or size and time if edited since."""
    manifest = file.parent / "manifest.json"
    if manifest.is_file() and file.stat().st_mtime_ns <= manifest.stat().st_mtime_ns:
        entry = read_json(manifest, "run `make data` again").get("files", {}).get(file.name)
        if entry:
            return entry["sha256"]
    return file_stamp(file)


def data_names(recipe: recipes.Recipe) -> dict[str, str]:
    """{"train": data set, "validation": data set}: one of each; the second only where one is named."""
    names = {"train": recipe.get("dataset"), "validation": recipe.get("eval_dataset")}
    if any("," in str(name) for name in names.values()):
        raise Refusal("a recipe names one data set (and one eval_dataset); join the files instead")
    return {part: str(name) for part, name in names.items() if name}


def cache_path(recipe: recipes.Recipe) -> Path:
    """Where the tokenised data of this recipe lies, if it has been made."""
    model = Path(str(recipe["model_name_or_path"]))
    files = [model / name for name in TOKENIZER_FILES if (model / name).is_file()]
    tokenizer: list[Any] = [sha256_file(file) for file in files]
    parts = data_names(recipe)
    entries = {part: dataset_entry(name) for part, name in parts.items()}
    depends = {
        "keys": {key: recipe.get(key) for key in KEYS},
        "data": {part: [entry, data_stamp(file)] for part, (entry, file) in entries.items()},
        "tokenizer": tokenizer or [str(model), recipe.get("model_revision")],
        "versions": [
            importlib.metadata.version(name) for name in ("llamafactory", "transformers", "tokenizers")
        ],
    }
    return CACHE / f"{parts['train']}-{fingerprint(depends)[:16]}"


class BatchedTokenizer:
    """A tokenizer that first notes the texts it is asked for, then encodes them in one call.

    LLaMA-Factory's templates encode one text at a time. Asked once in `noting` mode (which answers
    with nothing) and once more after `encode_noted`, they get the same ids from one batched call.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._ids, self.noting = tokenizer, {}, True  # type: ignore[var-annotated]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        if self.noting:
            self._ids[text] = None
            return []
        return self._ids[text]

    def encode_noted(self) -> None:
        texts = list(self._ids)
        ids = self._tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        self._ids, self.noting = dict(zip(texts, ids, strict=True)), False

    def forget(self) -> None:
        self._ids, self.noting = {}, True


class Tokeniser:
    """LLaMA-Factory's converter, template and processor for one recipe, ready to take chunks of rows."""

    def __init__(self, recipe: recipes.Recipe) -> None:
        os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "ERROR")
        from llamafactory.data import get_template_and_fix_tokenizer, loader
        from llamafactory.hparams import DataArguments, ModelArguments
        from llamafactory.model import load_tokenizer

        fields = {
            key: recipe[key] for key in KEYS if key in DataArguments.__dataclass_fields__ and key in recipe
        }
        fields.pop("val_size", None)
        self.data_args = DataArguments(dataset=recipe["dataset"], dataset_dir="data", **fields)
        named = {key: recipe[key] for key in ("model_name_or_path", "model_revision") if key in recipe}
        tokenizer = load_tokenizer(ModelArguments(**named))["tokenizer"]
        _check_template(recipe, tokenizer)
        template = get_template_and_fix_tokenizer(tokenizer, self.data_args)
        self.tokenizer = BatchedTokenizer(tokenizer)
        self.stage = "rm" if recipe["stage"] == "dpo" else "sft"
        self.cutoff = self.data_args.cutoff_len

        def processor(**changed: Any) -> Any:
            args = DataArguments(**{**self.data_args.to_dict(), **changed})
            args.cutoff_len = changed["cutoff_len"]  # packing lowers it by one; that is done already
            return loader._get_dataset_processor(args, self.stage, template, self.tokenizer, None)

        self.plain = processor(cutoff_len=UNLIMITED, packing=False, neat_packing=False)
        self.packed = processor(cutoff_len=self.cutoff) if self.data_args.packing else None

    def convert(self, rows: list[dict[str, Any]], entry: dict[str, Any]) -> dict[str, list[Any]]:
        """Rows as the data set holds them, in the columns that LLaMA-Factory's processors take."""
        from llamafactory.data.converter import get_dataset_converter
        from llamafactory.data.parser import DatasetAttr

        attributes = DatasetAttr("file", dataset_name=entry["file_name"])
        attributes.join(entry)
        converter = get_dataset_converter(attributes.formatting, attributes, self.data_args)
        converted = [converter(row) for row in rows]
        return {key: [row[key] for row in converted] for key in converted[0]}

    def encode(
        self, rows: list[dict[str, Any]], entry: dict[str, Any], pack: bool
    ) -> tuple[dict[str, Any], list[int]]:
        """(columns, row lengths in tokens); the columns leave out the rows longer than the cutoff."""
        examples = self.convert(rows, entry)
        self.tokenizer.forget()
        self.plain.preprocess_dataset(examples)
        self.tokenizer.encode_noted()
        columns = dict(self.plain.preprocess_dataset(examples))
        ids = [key for key in columns if key.endswith("input_ids")]
        if not ids or len(columns[ids[0]]) != len(rows):
            raise Refusal(
                f"{entry['file_name']} has rows without a prompt or an answer text; run `make data` again"
            )
        lengths = [max(len(columns[key][row]) for key in ids) for row in range(len(rows))]
        kept = [row for row, length in enumerate(lengths) if length <= self.cutoff]
        if pack and self.packed is not None:
            examples = {key: [values[row] for row in kept] for key, values in examples.items()}
            columns = dict(self.packed.preprocess_dataset(examples)) if kept else {}
        elif len(kept) < len(rows):
            columns = {key: [values[row] for row in kept] for key, values in columns.items()}
        return columns, lengths


def _check_template(recipe: recipes.Recipe, tokenizer: Any) -> None:
    """The template's end of turn must be a token of this model (LLaMA-Factory would add it, untrained)."""
    from llamafactory.data.template import TEMPLATES

    if recipe["template"] not in TEMPLATES:
        near = difflib.get_close_matches(str(recipe["template"]), TEMPLATES, 1)
        raise Refusal(
            f"unknown template {recipe['template']!r}; did you mean {near[0] if near else 'default'!r}?"
        )
    ends = TEMPLATES[recipe["template"]].stop_words[:1]
    if ends and ends[0] not in tokenizer.get_vocab():
        raise Refusal(
            f"template {recipe['template']} ends answers with {ends[0]}, which is no token of "
            f"{recipe['model_name_or_path']}; set the template of the model's family"
        )


_worker: dict[str, Any] = {}


def _start_worker(recipe: recipes.Recipe) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one process a core is faster than threads
    _worker["tokeniser"] = Tokeniser(recipe)


def _read_rows(file: Path, chunk: int) -> list[dict[str, Any]]:
    """The rows whose line starts in this chunk of a JSON-lines file, or a slice of a parquet file."""
    if file.suffix == ".parquet":
        group, start = _slices(file)[chunk]
        if _worker.get("group") != (file, group):  # a group is read once, not for every slice of it
            import pyarrow.parquet as pq

            _worker.update({"group": (file, group), "table": pq.ParquetFile(file).read_row_group(group)})
        return _worker["table"].slice(start, SLICE).to_pylist()
    import orjson

    with file.open("rb") as handle:
        start, end = chunk * CHUNK, (chunk + 1) * CHUNK
        if start:
            handle.seek(start - 1)
            handle.readline()  # the rest of a line that belongs to the chunk before
        lines = []
        while handle.tell() < end and (line := handle.readline()):
            lines.append(line)
    return [orjson.loads(line) for line in lines if line.strip()]


def _encode_chunk(job: tuple[int, Path, dict[str, Any], bool, Path]) -> tuple[list[int], int]:
    """Tokenise one chunk into one Arrow file; gives the lengths of all its rows and how many were written."""
    import pyarrow as pa

    chunk, file, entry, pack, target = job
    rows = _read_rows(file, chunk)
    if not rows:
        return [], 0
    columns, lengths = _worker["tokeniser"].encode(rows, entry, pack)
    table = pa.table({key: pa.array(values, _arrow_type(key)) for key, values in columns.items()})
    if table.num_rows:
        with pa.OSFile(str(target), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=1000)
    return lengths, table.num_rows


def _arrow_type(column: str) -> Any:
    import pyarrow as pa

    if column in ("images", "videos", "audios"):  # always empty, but the collators ask for them
        return pa.null()
    if column == "packing_params":
        return None
    return pa.list_(
        pa.int8() if column.endswith("attention_mask") and "packing" not in column else pa.int32()
    )


def _slices(file: Path) -> list[tuple[int, int]]:
    """(row group, first row in it) of every slice of a parquet file."""
    import pyarrow.parquet as pq

    groups = pq.read_metadata(file)
    sizes = [groups.row_group(group).num_rows for group in range(groups.num_row_groups)]
    return [(group, start) for group, size in enumerate(sizes) for start in range(0, size, SLICE)]


def _chunks(file: Path) -> int:
    if file.suffix == ".parquet":
        return len(_slices(file))
    return -(-file.stat().st_size // CHUNK)


def tokenise(recipe: recipes.Recipe, workers: int | None = None) -> Path:
    """Make the tokenised data of a resolved recipe, unless it is there; gives its folder.

    The folder is what `datasets.load_from_disk` reads, with `tokens.json` (counts of rows, tokens and
    dropped rows) and `lengths.npy` (tokens of every kept training row) beside it.
    """
    folder = cache_path(recipe)
    if (folder / "tokens.json").is_file():
        return folder
    if recipe.get("val_size"):
        raise Refusal(
            "val_size would cut a person's answers apart; set eval_dataset: ..._sft_validation instead"
        )
    workers = workers or len(os.sched_getaffinity(0))
    parts = data_names(recipe)
    counts: dict[str, Any] = {}
    chunks = sum(_chunks(dataset_entry(name)[1]) for name in parts.values())
    with atomic_path(folder) as partial, contextlib.ExitStack() as stack:
        partial.mkdir()
        if min(workers, chunks - 2) > 1:  # a process takes seconds to start
            start = multiprocessing.get_context("spawn").Pool
            run = stack.enter_context(start(workers, _start_worker, (recipe,))).imap
        else:
            _start_worker(recipe)
            run = map  # type: ignore[assignment]
        for part, name in parts.items():
            counts[part] = _tokenise_part(run, recipe, part, name, partial)
        write_json(partial / "dataset_dict.json", {"splits": list(parts)})
        write_json(partial / "tokens.json", counts)
    return folder


def _tokenise_part(
    run: Callable[..., Any], recipe: recipes.Recipe, part: str, name: str, folder: Path
) -> dict[str, Any]:
    import numpy as np
    from tqdm import tqdm

    entry, file = dataset_entry(name)
    (folder / part).mkdir()
    pack = part == "train" and bool(recipe.get("packing") or recipe.get("neat_packing"))
    chunks = _chunks(file)
    jobs = ((chunk, file, entry, pack, folder / part / f"data-{chunk:05}.arrow") for chunk in range(chunks))
    lengths: list[int] = []
    written = []
    results: Iterator[tuple[list[int], int]] = run(_encode_chunk, jobs)
    for chunk, (part_lengths, rows) in enumerate(tqdm(results, f"tokenising {name}", chunks, leave=False)):
        lengths += part_lengths
        written += [(f"data-{chunk:05}.arrow", rows)] if rows else []
    if not written:
        raise Refusal(
            f"{file} has no row within cutoff_len={recipe.get('cutoff_len', 2048)}; raise cutoff_len"
        )
    _describe(folder / part, part, [name for name, _ in written])
    kept = np.array(
        [length for length in lengths if length <= recipe.get("cutoff_len", 2048)], dtype=np.int32
    )
    np.save(folder / f"{part}_lengths.npy", kept)
    return {
        "dataset": name, "rows": len(lengths), "dropped_too_long": len(lengths) - len(kept),
        "sequences": sum(rows for _, rows in written), "packed": pack,
        "tokens": int(kept.sum()), "longest": int(kept.max()),
    }  # fmt: skip


def _describe(folder: Path, part: str, files: list[str]) -> None:
    """The two small files that make a folder of Arrow files one `datasets.load_from_disk` data set."""
    import pyarrow as pa
    from datasets import DatasetInfo, Features

    with pa.OSFile(str(folder / files[0])) as source:
        schema = pa.ipc.open_stream(io.BufferedReader(source)).schema
    DatasetInfo(features=Features.from_arrow_schema(schema)).write_to_directory(str(folder))
    write_json(
        folder / "state.json",
        {
            "_data_files": [{"filename": name} for name in files], 
            "_fingerprint": fingerprint([folder.parent.name, part])[:16],
            "_format_columns": None, "_format_kwargs": {}, "_format_type": None,
            "_output_all_columns": False, "_split": part,
        },
    )  # fmt: skip


def main() -> None:
    from scripts.training import launch as train

    options = train.make_parser(__doc__ or "").parse_args()
    recipe = train.resolved_recipe(options)
    if (cache_path(recipe) / "tokens.json").is_file():
        print(f"nothing to do: {cache_path(recipe)} holds these tokens")
        return
    folder = tokenise(recipe, options.workers)
    for part, counts in read_json(folder / "tokens.json", "delete the folder").items():
        print(
            f"{part}: {counts['rows']:,} rows, {counts['dropped_too_long']:,} dropped as too long, "
            f"{counts['tokens']:,} tokens in {counts['sequences']:,} sequences"
        )
    print(folder)


if __name__ == "__main__":
    run_cli(main)
