import base64
import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from common.errors import Refusal
from scripts.training import exporting, train
from scripts.training.gguf_files import write_gguf
from tests.helpers.training_data import make_workplace


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return make_workplace(tmp_path_factory.mktemp("work"))


@pytest.mark.whole
@pytest.mark.parametrize("lora", [False, True])
def test_an_export_gives_the_same_logits_and_is_never_overwritten(workplace, lora, monkeypatch, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    extra = {"finetuning_type": "lora", "lora_rank": 4} if lora else {}
    monkeypatch.chdir(workplace)
    run, out = train("sft", recipe="sft.yaml", max_steps=4, **extra), tmp_path / "model"
    (run.folder / "README.md").write_text("# The card that the report wrote")
    assert exporting.export(out, run=run.folder.name) == out
    ids = AutoTokenizer.from_pretrained(out)("How fair is it?", return_tensors="pt")["input_ids"]
    exported = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    if lora:
        base = AutoModelForCausalLM.from_pretrained("outputs/models/tiny", dtype=torch.float32)
        trained = PeftModel.from_pretrained(base, run.folder)
    else:
        trained = AutoModelForCausalLM.from_pretrained(run.folder, dtype=torch.float32)
    with torch.no_grad():
        assert torch.allclose(exported.eval()(ids).logits, trained.eval()(ids).logits, atol=1e-5)
    assert not list(out.glob("*.bin")) and "the report wrote" in (out / "README.md").read_text()
    assert (out / "chat_template.jinja").is_file() or "chat_template" in (
        out / "tokenizer_config.json"
    ).read_text()
    read = AutoModelForCausalLM.from_pretrained(out, gguf_file=write_gguf(out).name, dtype=torch.float32)
    with torch.no_grad():
        assert torch.allclose(read.eval()(ids).logits, exported(ids).logits, atol=0.02)
    with pytest.raises(Refusal, match="never overwritten"):
        exporting.export_run(run.folder, out)


def test_an_export_of_what_was_not_trained_names_the_command(tmp_path):
    with pytest.raises(Refusal, match="make train-sft"):
        exporting.export_run(tmp_path / "sft", tmp_path / "out")


@contextlib.contextmanager
def upload_server(status=200):
    """(address, files by path, tokens seen) of a hub that takes uploads."""
    files, tokens = {}, set()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            tokens.add(self.headers.get("Authorization"))
            answer = {"url": f"http://{self.headers['Host']}/my-lab/fair", "errors": [], "warnings": []}
            if "/preupload/" in self.path:
                paths = [file["path"] for file in json.loads(body)["files"]]
                answer = {
                    "files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]
                }
            elif "/commit/" in self.path:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                answer = {
                    "commitUrl": f"http://{self.headers['Host']}/my-lab/fair/commit/1",
                    "commitOid": "1" * 40,
                }
            sent = json.dumps(answer if status == 200 else {"error": "no"}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def do_GET(self):
            sent = json.dumps({"id": "my-lab/fair", "sha": "1" * 40, "siblings": []}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", files, tokens
    finally:
        server.shutdown()
        server.server_close()


def exported(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "README.md").write_text("# The card")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def use_hub(monkeypatch, address):
    """Make `address` the hub, also where the client was imported before: it reads HF_ENDPOINT once."""
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)


def test_a_push_uploads_the_folder_with_its_card_under_the_token_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    with upload_server() as (address, files, tokens):
        use_hub(monkeypatch, address)
        exporting.push(exported(tmp_path), "my-lab/fair")
    assert files == {"README.md": b"# The card", "model.safetensors": b"weights"}
    assert tokens == {"Bearer hf_mine"}


def test_a_push_that_cannot_work_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(Refusal, match="export HF_TOKEN"):
        exporting.push(tmp_path, "my-lab/fair")
    with pytest.raises(Refusal, match="owner/name"):
        exporting.push(tmp_path, "fair")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    with upload_server(403) as (address, _, _):
        use_hub(monkeypatch, address)
        with pytest.raises(Refusal, match="may write") as refusal:
            exporting.push(exported(tmp_path), "my-lab/fair")
    assert "\n" not in str(refusal.value)
