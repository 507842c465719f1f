"""Downloads from a real HTTP server on the loopback interface."""

import hashlib
import http.server
import threading

import pytest

from exporter.build import fetch, resolve
from exporter.build.download import cache_folder
from exporter.errors import DataError, UsageError

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.path.startswith("/truncated") else CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests = []
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_file_is_downloaded_once_then_taken_from_the_cache(server, tmp_path):
    first = fetch(f"{server.url}/w-{SHA256[:8]}.pth", SHA256[:8], tmp_path)
    second = fetch(f"{server.url}/w-{SHA256[:8]}.pth", SHA256, tmp_path)
    assert first == second == tmp_path / f"w-{SHA256[:8]}.pth"
    assert first.read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_damaged_file_in_the_cache_is_downloaded_again(server, tmp_path):
    (tmp_path / "w.pth").write_bytes(b"damaged")
    assert fetch(f"{server.url}/w.pth", SHA256, tmp_path).read_bytes() == CONTENT


def test_a_file_without_a_published_digest_is_kept_as_it_came_but_not_when_it_ends_early(server, tmp_path):
    assert fetch(f"{server.url}/w.pth", None, tmp_path).read_bytes() == CONTENT
    with pytest.raises(DataError, match="closed after"):
        fetch(f"{server.url}/truncated.pth", None, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["w.pth"]


def test_progress_counts_up_to_the_total(server, tmp_path):
    steps = []
    fetch(f"{server.url}/w.pth", SHA256, tmp_path, lambda done, total: steps.append((done, total)))
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert len(steps) > 1
    assert steps == sorted(steps)


@pytest.mark.parametrize(
    ("path", "sha256", "message"),
    [
        ("/missing.pth", SHA256, "the server answered 404"),
        ("/truncated.pth", SHA256, f"closed after {len(CONTENT) // 2} of {len(CONTENT)} bytes"),
        ("/w.pth", "0" * 64, "is not the published file"),
    ],
)
def test_a_failed_download_says_why_and_leaves_nothing(server, tmp_path, path, sha256, message):
    with pytest.raises(DataError) as caught:
        fetch(server.url + path, sha256, tmp_path)
    assert message in str(caught.value)
    assert "--weights FILE" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_no_server_is_a_clear_error(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match="refused"):
        fetch(f"{server.url}/w.pth", SHA256, tmp_path)


def test_a_cache_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="EDGE_EXPORT_CACHE"):
        fetch(f"{server.url}/w.pth", SHA256, tmp_path / "file" / "cache")


def test_an_interrupted_download_leaves_nothing(server, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(f"{server.url}/w.pth", SHA256, tmp_path, interrupt)
    assert list(tmp_path.iterdir()) == []


def test_the_cache_folder_can_be_chosen(server, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_EXPORT_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    assert fetch(f"{server.url}/w.pth", SHA256).parent == tmp_path / "mine"


def test_weights_may_be_a_file(tmp_path):
    (tmp_path / "mine.pth").write_bytes(b"")
    assert resolve("efficientdet_d0", str(tmp_path / "mine.pth")) == tmp_path / "mine.pth"


def test_a_weights_file_that_is_not_there_is_a_data_error():
    with pytest.raises(DataError, match=r"no weights file mine\.pth"):
        resolve("efficientdet_d0", "mine.pth")


def test_an_unknown_weights_name_offers_the_nearest():
    with pytest.raises(UsageError, match="did you mean coco"):
        resolve("efficientdet_d0", "cocco")


def test_a_model_without_published_weights_says_so():
    with pytest.raises(UsageError, match="published for it: none"):
        resolve("efficientdet_d5", "coco")
