import errno
import hashlib
import io
import logging
import socket
import sys
import threading

import pytest

from mnist_jax.errors import UserError
from mnist_jax.files import download

CONTENT = bytes(range(256)) * 1000
NAME = "file.gz"
BAD = ["404", "other file", "too long", "too short", "half", "nothing"]
REASONS = {
    "404": "answers 404 Not Found",
    "other file": "sends another file: its sha256 is",
    "too long": "sends more than the 256,000 bytes",
    "too short": "sends 255,999 bytes, where the file has 256,000",
    "half": "128000 more expected",
    "nothing": "sends nothing (timed out)",
}


def fetch(urls, folder, **kwargs):
    download.fetch(
        [f"{url}{NAME}" for url in urls],
        folder / NAME,
        size=len(CONTENT),
        checksum=f"sha256:{hashlib.sha256(CONTENT).hexdigest()}",
        way_out="Name another folder.",
        timeout=(5.0, 0.3),
        **kwargs,
    )


def test_a_good_mirror_delivers_into_a_new_folder(start_mirror, tmp_path, list_files):
    mirror = start_mirror({NAME: CONTENT})
    fetch([mirror.url], tmp_path / "new" / "folder")
    assert list_files(tmp_path) == {f"new/folder/{NAME}": CONTENT}


def test_everyone_may_read_the_file(start_mirror, tmp_path):
    fetch([start_mirror({NAME: CONTENT}).url], tmp_path)
    (tmp_path / "ordinary").touch()
    assert (tmp_path / NAME).stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("behaviour", BAD)
def test_after_a_bad_mirror_the_next_is_used(
    start_mirror, tmp_path, list_files, caplog, behaviour
):
    bad = start_mirror({NAME: CONTENT}, behaviour)
    good = start_mirror({NAME: CONTENT})
    fetch([bad.url, good.url], tmp_path)
    assert list_files(tmp_path) == {NAME: CONTENT}
    assert bad.requested and good.requested
    warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert bad.url in warnings[0] and REASONS[behaviour] in warnings[0]


def test_without_a_good_mirror_all_reasons_are_given(
    start_mirror, tmp_path, list_files
):
    mirrors = [start_mirror({NAME: CONTENT}, behaviour) for behaviour in BAD]
    with pytest.raises(download.DownloadError) as caught:
        fetch([mirror.url for mirror in mirrors], tmp_path / "new")
    first, *lines, last = str(caught.value).splitlines()
    assert first.startswith(f"{tmp_path / 'new' / NAME} is missing and could not be")
    assert last == "Name another folder."
    assert len(lines) == len(BAD)
    for line, mirror, behaviour in zip(lines, mirrors, BAD, strict=True):
        assert line.startswith(f"{mirror.url}{NAME}: ") and REASONS[behaviour] in line
    assert not list(tmp_path.iterdir())  # not even the folder that it began to fill


def test_a_good_mirror_leaves_the_others_alone(start_mirror, tmp_path):
    good, other = start_mirror({NAME: CONTENT}), start_mirror({NAME: CONTENT})
    fetch([good.url, other.url], tmp_path)
    assert other.requested == []


def test_nobody_listens(tmp_path, list_files, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
    with pytest.raises(download.DownloadError, match="Connection refused"):
        fetch([url], tmp_path)
    assert list_files(tmp_path) == {}


def test_the_name_is_not_found(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(download.DownloadError, match="Name or service not known"):
        fetch(["http://mirror.invalid/"], tmp_path)


@pytest.mark.parametrize("url", ["mirror", "ftp://mirror/", "http://"])
def test_a_mirror_that_is_no_http_url(tmp_path, url):
    with pytest.raises(download.DownloadError, match=url):
        fetch([url], tmp_path)


def test_no_mirror(tmp_path):
    with pytest.raises(download.DownloadError, match="there is no mirror"):
        fetch([], tmp_path)


class FullDisk(io.RawIOBase):
    def writable(self):
        return True

    def write(self, data, /):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_not_the_mirror_s_fault(
    start_mirror, tmp_path, list_files, monkeypatch, caplog
):
    first, second = start_mirror({NAME: CONTENT}), start_mirror({NAME: CONTENT})
    receive = download._receive

    def receive_to_full_disk(url, file, **kwargs):
        receive(url, FullDisk(), **kwargs)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(download, "_receive", receive_to_full_disk)
    with pytest.raises(UserError) as caught:
        fetch([first.url, second.url], tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / NAME} cannot be written: No space left")
    assert first.url not in message
    assert second.requested == [] and caplog.records == []
    assert list_files(tmp_path) == {}


def test_a_folder_that_cannot_be_made(start_mirror, tmp_path):
    # Under a regular file: nobody has the right to that, not even root.
    (tmp_path / "file").write_text("mine")
    mirror = start_mirror({NAME: CONTENT})
    for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(UserError, match="cannot be written.*Name another folder"):
            fetch([mirror.url], folder)
    assert mirror.requested == []
    assert (tmp_path / "file").read_text() == "mine"


def test_an_interruption_leaves_nothing(
    start_mirror, tmp_path, list_files, monkeypatch
):
    body = download._body

    def interrupted(url, timeout):
        yield next(body(url, timeout))
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_body", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch([start_mirror({NAME: CONTENT}).url], tmp_path)
    assert list_files(tmp_path) == {}


def test_a_failed_download_keeps_the_file_that_stood_there(start_mirror, tmp_path):
    (tmp_path / NAME).write_text("mine")
    with pytest.raises(download.DownloadError):
        fetch([start_mirror({NAME: CONTENT}, "half").url], tmp_path)
    assert (tmp_path / NAME).read_text() == "mine"


def test_two_downloads_at_once_do_not_hurt_each_other(
    start_mirror, tmp_path, list_files, monkeypatch
):
    mirror = start_mirror({NAME: CONTENT})
    barrier = threading.Barrier(2)
    body = download._body

    def in_step(url, timeout):
        for chunk in body(url, timeout):
            barrier.wait(5)  # Both have a file open, and half of it written.
            yield chunk

    monkeypatch.setattr(download, "_body", in_step)
    threads = [
        threading.Thread(target=fetch, args=([mirror.url], tmp_path)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list_files(tmp_path) == {NAME: CONTENT}


def test_no_terminal_one_line(start_mirror, tmp_path, caplog, capsys, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    mirror = start_mirror({NAME: CONTENT})
    with caplog.at_level(logging.INFO, "mnist_jax"):
        fetch([mirror.url], tmp_path)
    assert [record.message for record in caplog.records] == [
        f"Downloading {mirror.url}{NAME} (0.3 MB)"
    ]
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar(start_mirror, tmp_path, caplog, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    with caplog.at_level(logging.INFO, "mnist_jax"):
        fetch([start_mirror({NAME: CONTENT}).url], tmp_path)
    shown = capsys.readouterr().out
    assert f"Downloading {NAME}" in shown and "256.0/256.0 kB" in shown
    assert caplog.records == []
