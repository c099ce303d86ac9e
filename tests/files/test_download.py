"""Downloads: complete and verified, or an error with every mirror's reason."""

import errno
import gc
import hashlib
import logging
import socket

import pooch
import pytest

from mnist_jax.errors import UserError
from mnist_jax.files import download

CONTENT = bytes(range(256)) * 1000
NAME = "file.gz"
REASONS = {
    "404": "404 Client Error: Not Found",
    "other file": "does not match the known hash",
    "too long": "does not match the known hash",
    "too short": "does not match the known hash",
    "half": "128000 more expected",
    "nothing": "timed out",
}


# pooch leaves the connections to mirrors that break off to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", (5.0, 0.3))
    yield
    gc.collect()


def fetch(urls, folder):
    checksum = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    urls = [f"{url}{NAME}" for url in urls]
    download.fetch(urls, folder / NAME, checksum=checksum, way_out="Name a folder.")


def test_a_good_mirror_delivers_into_a_new_folder_and_leaves_the_others_alone(
    start_mirror, tmp_path, list_files, caplog, capfd
):
    good, other = start_mirror({NAME: CONTENT}), start_mirror({NAME: CONTENT})
    with caplog.at_level(logging.INFO, "mnist_jax"):
        fetch([good.url, other.url], tmp_path / "new" / "folder")
    assert list_files(tmp_path) == {f"new/folder/{NAME}": CONTENT}
    assert other.requested == []
    assert [each.message for each in caplog.records] == [
        f"Downloading {good.url}{NAME}"
    ]
    assert capfd.readouterr() == ("", "")
    (tmp_path / "ordinary").touch()  # which everyone may read
    mode = (tmp_path / "new" / "folder" / NAME).stat().st_mode
    assert mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("behaviour", REASONS)
def test_after_a_bad_mirror_the_next_is_used(
    start_mirror, tmp_path, list_files, caplog, behaviour
):
    bad = start_mirror({NAME: CONTENT}, behaviour)
    good = start_mirror({NAME: CONTENT})
    fetch([bad.url, good.url], tmp_path)
    assert list_files(tmp_path) == {NAME: CONTENT}
    assert bad.requested and good.requested
    (warning,) = (r.message for r in caplog.records if r.levelno == logging.WARNING)
    assert bad.url in warning and REASONS[behaviour] in warning


def test_without_a_good_mirror_all_reasons_are_given(
    start_mirror, tmp_path, list_files
):
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"http://127.0.0.1:{server.getsockname()[1]}/"
    reasons = {
        **{start_mirror({NAME: CONTENT}, bad).url: REASONS[bad] for bad in REASONS},
        nobody: "Connection refused",
        "mirror": "No scheme supplied",
    }
    with pytest.raises(UserError) as caught:
        fetch(list(reasons), tmp_path)
    first, *lines, last = str(caught.value).splitlines()
    assert first.startswith(f"{tmp_path / NAME} is missing and could not be")
    assert last == "Name a folder."
    for line, (url, reason) in zip(lines, reasons.items(), strict=True):
        assert line.startswith(f"{url}{NAME}: ") and reason in line
    assert list_files(tmp_path) == {}


def test_the_disk_is_not_the_mirror_s_fault(
    start_mirror, tmp_path, list_files, monkeypatch, caplog
):
    first, second = start_mirror({NAME: CONTENT}), start_mirror({NAME: CONTENT})
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(UserError, match=r"Cannot write .*Name a folder\."):
            fetch([first.url, second.url], folder)

    def to_full_disk(self, url, output_file, pooch):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", to_full_disk)
    with pytest.raises(UserError, match="Cannot write .*No space left"):
        fetch([first.url, second.url], tmp_path)
    assert first.requested == second.requested == []
    assert list_files(tmp_path) == {"file": b"mine"}
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
