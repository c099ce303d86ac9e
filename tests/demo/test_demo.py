"""The demo: it reads as the run does, keeps corrections, answers only its page."""

import base64
import contextlib
import http.client
import io
import json
import re
import signal
import threading
import time
import urllib.request
from concurrent import futures

import numpy as np
import pytest
from PIL import Image

from mnist_jax import data
from mnist_jax.data import labelled
from mnist_jax.demo import App, Corrections, Server
from mnist_jax.errors import UserError
from mnist_jax.runs.load import load
from tests.support import paper
from tests.support.browser import DIGITS, chromium, draw
from tests.support.commands import check_lines, start, wait_for

BINARY = "application/octet-stream"


@pytest.fixture(scope="module")
def run():
    return load()


@pytest.fixture(scope="module")
def images(small: data.Dataset) -> np.ndarray:
    """Twenty of the embedded digits, uint8 [20, 28, 28]."""
    return small.test.images[:20, ..., 0]


@pytest.fixture(scope="module")
def photo(images) -> bytes:
    """A PNG file of five digits on squared paper."""
    file = io.BytesIO()
    rng = np.random.default_rng(3)
    paper.photograph_number(images[:5], rng, squared=True).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "kept" / "here"


@pytest.fixture
def server(run, folder):
    """A demo in which the network in the package stands twice."""
    app = App([run, run], Corrections(folder))
    with Server(app, host="127.0.0.1", port=0) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def send(server, method, path, body=b"", **headers):
    """Send a request and return the answer's status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    given = {"Host": f"localhost:{server.port}", "Content_Length": str(len(body))}
    connection.putrequest(method, path, skip_host=True)
    for name, value in (given | headers).items():
        if value is not None:
            connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(body)
    with contextlib.closing(connection), connection.getresponse() as response:
        return response.status, dict(response.headers), response.read()


def ask(server, path, body, kind=BINARY):
    status, _, content = send(server, "POST", path, body, Content_Type=kind)
    return status, json.loads(content)


def test_drawings_and_photographs_are_read_as_by_the_run(server, run, images, photo):
    for image in images:
        status, said = ask(server, "/predict?run=1", image.tobytes())
        assert status == 200
        (answer,) = said["answers"]
        (digit,) = answer["digits"]
        probabilities = run.predict(image[np.newaxis])[0]
        np.testing.assert_allclose(digit["probabilities"], probabilities, atol=1e-6)
        assert answer["run"] == 1
        assert digit["label"] == run.classes[probabilities.argmax()]
        assert digit["unsure"] == (probabilities.max() < run.threshold[0])

    expected = run.read(io.BytesIO(photo))
    status, said = ask(server, "/read?run=0&run=1", photo)
    assert status == 200 and len(expected.digits) == len(said["found"]) == 5
    assert said["turned"] == expected.turned
    for found, digit in zip(said["found"], expected.digits, strict=True):
        assert found["line"] == digit.line
        assert base64.b64decode(found["image"]) == digit.image.tobytes()
        assert found["box"] == list(digit.box)
    assert [answer["text"] for answer in said["answers"]] == [str(expected)] * 2


def correction(image, label, read_as="0"):
    grey = base64.b64encode(image.tobytes()).decode()
    said = {"image": grey, "label": label, "read_as": read_as}
    return json.dumps(said).encode()


def test_corrections_are_what_evaluate_reads(server, folder, images):
    assert not folder.exists()  # before there is anything to keep
    # The second label was wrong itself, and is corrected.
    for place, label, expected in ((0, "3", 1), (1, "1", 2), (2, "9", 3), (1, "7", 3)):
        body = correction(images[place], label)
        status, said = ask(server, "/correct", body, "application/json")
        assert (status, said["count"]) == (200, expected)
    split = labelled.read_folder(folder)
    kept = {image.tobytes() for image in split.images[split.labels == 7]}
    assert kept == {images[1].tobytes()}
    assert sorted(split.labels) == [3, 7, 9]


def test_demos_with_one_folder_lose_no_correction(tmp_path):
    demos = [Corrections(tmp_path) for _ in range(3)]

    def correct(place):
        for number in range(20):
            image = np.full((28, 28), 20 * place + number, np.uint8)
            demos[place].add(image, label="7", read_as="1")

    with futures.ThreadPoolExecutor() as pool:
        list(pool.map(correct, range(3)))
    assert len(labelled.read_folder(tmp_path)) == 60


def test_columns_and_rows_of_others_stay(tmp_path, images):
    Image.fromarray(images[0]).save(tmp_path / "own.png")
    (tmp_path / "labels.csv").write_text("label,file,writer\n4,own.png,Ada\n")
    assert Corrections(tmp_path).add(images[1], label="2", read_as="7") == 2
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    assert lines[:2] == ["label,file,writer,read_as", "4,own.png,Ada,"]
    assert lines[2].startswith("2,") and lines[2].endswith(".png,,7")


@pytest.mark.parametrize(
    "path, body, headers, status, message",
    [
        ("/predict?run=0", bytes(783), {}, 400, "784 bytes, got 783"),
        ("/predict?run=2", bytes(784), {}, 400, "from 0 to 1"),
        ("/predict", bytes(784), {"Content_Type": "text/plain"}, 415, "unknown"),
        ("/predict?run=0", bytes(784), {"Host": "evil.example:80"}, 403, "this demo"),
        ("/predict", bytes(784), {"Origin": "http://evil.example"}, 403, "this demo"),
        ("/__init__", b"", {"Content_Type": None}, 404, "unknown path"),
        ("/predict", b"", {"Content_Length": "abc"}, 411, "number of bytes"),
        ("/predict", b"", {"Content_Length": None}, 411, "number of bytes"),
        ("/predict", b"", {"content-length": "3"}, 411, "number of bytes"),
        ("/predict", b"x", {"Content_Length": "784"}, 408, "shorter"),
        ("/predict", b"", {"Content_Length": "9" * 5000}, 411, "number of bytes"),
        ("/read?run=0", b"no image", {}, 422, "is not an image"),
        ("/read?run=0", b"", {"Content_Length": "64000001"}, 413, "at most 64"),
        ("/correct", b"[" * 200_000, {"Content_Type": "application/json"}, 400,
         "not a correction"),
        ("/correct", b"{}", {"Content_Type": "application/json"}, 400, "correction"),
        *(
            ("/correct", correction(np.zeros(784, np.uint8), label),
             {"Content_Type": "application/json"}, 400, "not one of 0, 1, 2")
            for label in ("10", 7, "../x")
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(
    server, folder, path, body, headers, status, message, monkeypatch
):
    monkeypatch.setattr(server.RequestHandlerClass, "timeout", 0.3)
    headers = {"Content_Type": BINARY} | headers
    answered, _, content = send(server, "POST", path, body, **headers)
    assert answered == status and message in json.loads(content)["error"]
    assert not folder.exists()


def test_a_full_disk_is_reported_and_the_server_still_runs(server, folder, images):
    folder.parent.write_text("in the way")
    body = correction(images[0], "1")
    status, said = ask(server, "/correct", body, "application/json")
    assert status == 500 and "kept" in said["error"]
    assert ask(server, "/predict?run=0", images[0].tobytes())[0] == 200


def test_the_page_is_complete_and_the_only_one(server):
    status, headers, content = send(server, "GET", "/")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert b"{{" not in content and b"://" not in content
    assert send(server, "GET", "/favicon.ico")[0] == 404
    assert send(server, "GET", "/", Host=f"evil.example:{server.port}")[0] == 403


def test_bad_folders_and_ports_are_refused(run, server, tmp_path):
    with pytest.raises(UserError, match=r"--port=\d+: .*in use"):
        Server(server.app, host="127.0.0.1", port=server.port)
    for text in ("name\nx.png\n", ""):
        (tmp_path / "labels.csv").write_text(text)
        with pytest.raises(UserError, match="first line must be file,label"):
            Corrections(tmp_path)


def test_the_command_as_a_user_types_it(command_env, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    expected = [
        (["nowhere"], 1, "nowhere"),
        (["--port=70000"], 2, "--port=70000"),
        ([f"--corrections={tmp_path}"], 1, "holds other files"),
    ]
    check_lines("demo", expected, env=command_env)
    kept = tmp_path / "kept"
    flags = ["--port=0", f"--corrections={kept}"]
    with start("mnist_jax", "demo", *flags, env=command_env) as command:
        try:
            said = wait_for(command, "in a browser")
            address = re.findall(r"http://\S+", said)[0]
            with urllib.request.urlopen(address, timeout=30) as page:
                assert b"Draw a digit" in page.read()
            command.send_signal(signal.SIGINT)
            assert command.wait() == 130
        finally:
            command.kill()
    assert not kept.exists()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile"), size=(1280, 1000)) as driver:
        yield driver


def test_a_browser_shows_what_is_drawn_read_and_corrected(
    browser, server, folder, photo, run, tmp_path
):
    browser.get(server.address)

    def texts(selector):
        return [part.text for part in browser.find_elements("css selector", selector)]

    def wait_for(selector, expected):
        end = time.monotonic() + 10
        while texts(selector) != expected and time.monotonic() < end:
            time.sleep(0.02)
        assert texts(selector) == expected, texts(".sentence")

    draw(browser, DIGITS["7"])
    wait_for(".digit", ["7", "7"])
    first, _ = browser.find_elements("css selector", "#chosen input")
    first.click()
    wait_for(".card:not([hidden]) .digit", ["7"])
    browser.find_elements("css selector", "#labels button")[1].click()
    wait_for("#kept", [f"Saved as 1 in {folder} (1 image)."])
    split = labelled.read_folder(folder)
    assert split.labels.tolist() == [1]
    assert run.predict(split.images)[0].argmax() == 7  # the very image
    first.click()
    wait_for(".digit", ["7", "7"])

    (tmp_path / "photo.png").write_bytes(photo)
    chooser = browser.find_element("id", "file")
    chooser.send_keys(str(tmp_path / "photo.png"))
    text = str(run.read(io.BytesIO(photo)))
    wait_for("#texts b", [text, text])
    for place, button in enumerate(
        browser.find_elements("css selector", "#found button")
    ):
        button.click()
        assert texts(".digit") == [text[place]] * 2
        assert button.get_attribute("aria-pressed") == "true"
    assert not browser.find_element("id", "undo").is_enabled()  # nothing is drawn
    (tmp_path / "blank.png").write_bytes(b"no picture")
    chooser.send_keys(str(tmp_path / "blank.png"))
    wait_for("#trouble", [
        "The picture is not an image of a known format: save it as PNG or JPEG."
    ])  # fmt: skip
    log = [line for line in browser.get_log("browser") if "422" not in line["message"]]
    assert log == []
    browser.set_window_size(390, 900)
    width = "return document.documentElement.scrollWidth <= window.innerWidth"
    assert browser.execute_script(width)
