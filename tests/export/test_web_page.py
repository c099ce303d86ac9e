"""The page: its network predicts as the run does, and its drawings are MNIST's."""

import json
import re

import numpy as np
import pytest

from mnist_jax import export
from mnist_jax.export import graph, network, web_page
from mnist_jax.runs.load import load
from tests.support.browser import DIGITS, chromium, draw
from tests.support.made_data import THREE

# In parts of the sheet.
STROKES = {
    "three": DIGITS["3"],
    "small seven": [[[0.1, 0.1], [0.3, 0.1], [0.18, 0.35]]],
    "one": [[[0.9, 0.05], [0.88, 0.95]]],
    "dash": [[[0.2, 0.5], [0.8, 0.5]]],
}


@pytest.mark.parametrize("name", STROKES)
def test_a_drawing_is_prepared_as_mnist_was(name, evaluate):
    strokes = np.array(STROKES[name], object).tolist()
    image = np.array(evaluate(f"Array.from(prepare({json.dumps(strokes)}))"))
    image = image.reshape(28, 28)
    rows, columns = (np.flatnonzero((image > 127).any(axis=axis)) for axis in (1, 0))
    longer = max(np.ptp(rows), np.ptp(columns)) + 1
    assert 19 <= longer <= 21  # nothing is cut off
    for axis in (0, 1):
        mass = np.average(np.arange(28), weights=image.sum(axis=1 - axis))
        assert abs(mass - 14) < 0.5


def test_place_and_size_of_a_drawing_do_not_matter_and_a_dot_stays_one(evaluate):
    strokes = STROKES["three"]
    smaller = [[[0.4 * x + 0.5, 0.4 * y + 0.1] for x, y in line] for line in strokes]
    first, second, dot, nothing = evaluate(
        f"[{json.dumps(strokes)}, {json.dumps(smaller)}, [[[0.1, 0.9]]], []]"
        ".map(prepare).map((image) => image && Array.from(image))"
    )
    np.testing.assert_allclose(first, second, atol=1)
    ink = np.array(dot).reshape(28, 28)
    assert ink[14, 14] == 255 and 3 * 255 < ink.sum() < 8 * 255
    assert nothing is None


def test_what_a_page_says_is_text_and_not_markup(make_run):
    run = make_run("lenet5")
    traced = graph.trace(*network.make_logits(run), (28, 28), count=1)
    names = "network parameters data accuracy interval".split()
    facts: dict[str, str] = dict.fromkeys(names, "<b>&")
    classes = ("</script>", "Ankle boot", *THREE)
    page = web_page.to_bytes(traced, classes=classes, facts=facts).decode()
    assert "<b>&" not in page and page.count("&lt;b&gt;&amp;") == 6
    assert page.count("</script>") == 3 and "{{" not in page and "{%" not in page
    assert not re.findall(r'(?:src|href)="(?!data:,")|https?://|\bfetch\(', page)
    stored = json.loads(re.findall(r'id="network">([^<]*)<', page)[0])
    assert tuple(stored["classes"]) == classes


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile"), size=(390, 844)) as driver:
        yield driver


def test_a_browser_reads_what_is_drawn(browser, tmp_path):
    from selenium.webdriver import Keys

    export.write(load(), tmp_path / "page.html", format="html")
    browser.get((tmp_path / "page.html").as_uri())
    sheet, digit, sentence, clear, undo = (
        browser.find_element("css selector", name)
        for name in ("#sheet", ".digit", ".sentence", "#clear", "#undo")
    )
    assert digit.text == "?" and not clear.is_enabled()

    def wait_for(text):
        browser.execute_async_script("setTimeout(arguments[0], 300)")
        assert digit.text == text, sentence.text

    draw(browser, STROKES["three"])
    wait_for("3")
    clear.click()
    wait_for("?")
    draw(browser, STROKES["one"])
    wait_for("1")
    undo.click()
    wait_for("?")

    # A seven, by the keyboard alone.
    sheet.send_keys(Keys.ARROW_UP * 15, Keys.ARROW_LEFT * 10, Keys.SPACE)
    sheet.send_keys(Keys.ARROW_RIGHT * 20)
    sheet.send_keys((Keys.ARROW_DOWN * 3 + Keys.ARROW_LEFT) * 10)
    wait_for("7")
    sheet.send_keys(Keys.DELETE)
    wait_for("?")
    assert browser.get_log("browser") == []
