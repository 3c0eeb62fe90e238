"""A small server in the hub's layout, on the loopback: enough of its protocol for real downloads in tests."""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """What the server serves and what it saw. `cut`: a file, and after how many bytes it is cut, once."""

    def __init__(self, root: Path, repo: str):
        self.files = {
            str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()
        }
        self.repo = repo
        self.cut: tuple[str, int] | None = None
        self.damage: str | None = None
        self.ranges: list[str] = []
        self.downloads: list[str] = []
        self.url = ""

    def described(self, name: str) -> dict[str, object]:
        """A file's entry in the hub's listings: shards are stored as LFS objects, JSON files plainly."""
        content = self.files[name]
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry: dict[str, object] = {"type": "file", "oid": blob, "size": len(content), "path": name}
        if name.endswith(".parquet"):
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 130}
        return entry

    def etag(self, name: str) -> str:
        entry = self.described(name)
        return entry["lfs"]["oid"] if "lfs" in entry else str(entry["oid"])  # type: ignore[index]


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def _json(self, value: object, status: int = 200, **headers: str) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            for key, text in {
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
                **headers,
            }.items():
                self.send_header(key.replace("_", "-"), text)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if f"/{hub.repo}" not in path:
                self._json({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
            elif f"/{REVISION}" not in path:
                self._json({"error": "Invalid rev id"}, 404, X_Error_Code="RevisionNotFound")
            elif path.startswith("/api/") and "/tree/" in path:
                self._json([hub.described(name) for name in hub.files])
            elif path.startswith("/api/"):
                self._json(
                    {"id": hub.repo, "sha": REVISION, "siblings": [self._sibling(n) for n in hub.files]}
                )
            else:
                self._send_file(path.split(f"/resolve/{REVISION}/")[1])

        def _sibling(self, name: str) -> dict[str, object]:
            entry = hub.described(name)
            sibling = {"rfilename": name, "size": entry["size"], "blobId": entry["oid"]}
            if "lfs" in entry:
                sibling["lfs"] = {"sha256": hub.etag(name), "size": entry["size"], "pointerSize": 130}
            return sibling

        def _send_file(self, name: str) -> None:
            content = hub.files[name]
            if hub.damage == name:
                content = bytes(len(content))
            start = 0
            if match := re.match(r"bytes=(\d+)-", self.headers.get("Range", "")):
                start = int(match[1])
                hub.ranges.append(f"{name}:{start}")
            self.send_response(206 if start else 200)
            self.send_header("ETag", f'"{hub.etag(name)}"')
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("X-Linked-Etag", f'"{hub.etag(name)}"')
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if self.command == "HEAD":
                return
            hub.downloads.append(name)
            if hub.cut and hub.cut[0] == name:
                self.wfile.write(content[start : start + hub.cut[1]])
                hub.cut = None
                self.close_connection = True
                return
            self.wfile.write(content[start:])

    return Handler


@contextlib.contextmanager
def serve(root: Path, repo: str) -> Iterator[Hub]:
    """Serve the files below `root` as the data set `repo` while the block runs."""
    hub = Hub(root, repo)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
