"""A Hugging Face Hub on this machine: the few answers that a download asks for, of repositories that are folders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def fake_hub(root: Path) -> Iterator[str]:
    """Serve `root`/OWNER/NAME as repositories, revision "main" alone; gives the endpoint.

    A repository called "gated" is kept from everyone.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            parts = self.path.partition("?")[0].strip("/").split("/")
            about = parts[:2] == ["api", "models"]
            owner, name, _, revision, *rest = [*(parts[2:] if about else parts), "", "", "", ""]
            folder = root / owner / name
            if name == "gated":
                self.reply(403, b"", {"X-Error-Code": "GatedRepo"}, body)
            elif not folder.is_dir():
                self.reply(401, b"", {"X-Error-Code": "RepoNotFound"}, body)
            elif revision not in ("", "main", COMMIT):
                self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"}, body)
            elif about:
                self.reply(200, json.dumps(self.listing(folder, tree=parts[4:5] == ["tree"])).encode(), {}, body)
            else:
                data = (folder / "/".join(filter(None, rest))).read_bytes()
                headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
                self.reply(200, data, headers, body)

        def listing(self, folder: Path, *, tree: bool) -> object:
            files = sorted(file for file in folder.iterdir() if file.is_file())
            if tree:
                sizes = [(file.name, file.stat().st_size) for file in files]
                return [{"type": "file", "path": name, "size": size, "oid": "0" * 40} for name, size in sizes]
            return {
                "id": "/".join(folder.parts[-2:]),
                "sha": COMMIT,
                "siblings": [{"rfilename": f.name} for f in files],
            }

        def reply(self, code: int, data: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(code)
            for key, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
