"""Finding and downloading: by checksum, from one mirror after the other, whole or not at all."""

import errno
import hashlib
import http.server
import re
import threading

import pytest

from experiments.datasets import files

CONTENT = bytes(range(256)) * 5000  # more than one block
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
NOWHERE = "http://127.0.0.1:9/file.bin"  # the discard port, where nothing listens


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        place = self.path.split("/")[1]
        if place == "missing":
            self.send_error(404)
            return
        body = {"good": CONTENT, "corrupt": CONTENT[::-1]}.get(place, CONTENT[:100_000])
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT if place == "cut" else body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


def published(server, *places, checksum=SHA256):
    mirrors = [NOWHERE if place == "dead" else f"{server}/{place}/file.bin" for place in places]
    return files.Published("file.bin", checksum, tuple(mirrors))


@pytest.mark.parametrize("checksum", [MD5, SHA256])
def test_mirrors_are_tried_one_after_the_other(server, tmp_path, checksum):
    file = published(server, "dead", "missing", "cut", "corrupt", "good", checksum=checksum)
    found = files.find(file, tmp_path / "new")
    assert found == files.Found(tmp_path / "new" / "file.bin", checksum, True)
    assert found.path.read_bytes() == CONTENT
    assert [path.name for path in found.path.parent.iterdir()] == ["file.bin"]
    again = files.find(published(server, "dead"), tmp_path / "new")
    assert again.published


def test_no_mirror_is_left(server, tmp_path):
    file = published(server, "dead", "missing", "cut", "corrupt")
    with pytest.raises(OSError, match="file.bin could not be downloaded") as raised:
        files.find(file, tmp_path, verify=False)  # downloads are verified all the same
    lines = str(raised.value).splitlines()
    assert SHA256 in lines[0] and str(tmp_path) in lines[0]
    for line, place, problem in zip(
        lines[1:],
        (":9/", "missing", "cut", "corrupt"),
        ("refused", "404", "found sha256:.* in 100,000 bytes", "found sha256:.* in 1,280,000"),
        strict=True,
    ):
        assert place in line
        assert re.search(problem, line), line
    assert list(tmp_path.iterdir()) == []


def test_a_mirror_that_hangs(server, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "TIMEOUT", 0.2)
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as silent:  # accepts, never answers
        mirrors = (f"http://127.0.0.1:{silent.server_port}/", f"{server}/good/file.bin")
        found = files.find(files.Published("file.bin", SHA256, mirrors), tmp_path)
    assert found.path.read_bytes() == CONTENT


def test_interrupted(server, tmp_path, monkeypatch):
    def interrupt(path, algorithm):
        assert path.read_bytes() == CONTENT
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "checksum", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.find(published(server, "good"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_not_the_mirrors_fault(server, tmp_path, monkeypatch):
    def full(blocks, path):
        path.write_bytes(next(blocks))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_copy", full)
    with pytest.raises(OSError, match="No space left") as raised:
        files.find(published(server, "good", "good"), tmp_path)
    assert raised.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotADirectoryError):
        files.find(published(server, "good"), tmp_path / "file" / "deeper")


def test_another_file_in_the_folder(tmp_path):
    (tmp_path / "file.bin").write_bytes(b"another")
    file = published("", "dead")
    other = f"sha256:{hashlib.sha256(b'another').hexdigest()}"
    message = (
        f"file.bin must hold the published file, {SHA256}, but holds {other} in 7 bytes; .*"
        "verify=False"
    )
    with pytest.raises(ValueError, match=message):
        files.find(file, tmp_path)
    assert files.find(file, tmp_path, verify=False) == files.Found(
        tmp_path / "file.bin", other, False
    )


def test_the_folder_of_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv(files.VARIABLE, str(tmp_path))
    assert files.data_folder() == tmp_path
    assert files.data_folder("elsewhere").name == "elsewhere"
    monkeypatch.delenv(files.VARIABLE)
    assert files.data_folder().parts[-2:] == (".cache", "pdo_jax")
    assert "~" not in str(files.data_folder())
