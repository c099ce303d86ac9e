"""The page: its network predicts as the run does, and its drawings are MNIST's."""

import base64
import json
import re
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnist_jax import export
from mnist_jax.errors import UserError
from mnist_jax.export import graph, network, web_page
from mnist_jax.export.graph import UnsupportedError
from tests.support.browser import chromium, draw

# Evaluates scripts of a page, without the page, then an expression.
DRIVER = """
const { scripts, expression, page } = JSON.parse(require("fs").readFileSync(0));
const part = (id) => new RegExp(`id="${id}">([^<]*)<`).exec(page)[1];
const result = new Function("part", `${scripts}; return ${expression}`)(part);
process.stdout.write(JSON.stringify(result));
"""
PREDICT = """(() => {
  const predict = makePredict(
    JSON.parse(part("network")).steps, decodeWeights(part("weights")));
  return %s.map((image) => Array.from(predict(Uint8Array.from(image))));
})()"""
TEMPLATE = (web_page.PARTS / "page.html").read_text()
# In parts of the sheet.
STROKES = {
    "three": [[[0.3, 0.25], [0.5, 0.15], [0.65, 0.3], [0.45, 0.47], [0.7, 0.65],
               [0.5, 0.85], [0.28, 0.74]]],
    "small seven": [[[0.1, 0.1], [0.3, 0.1], [0.18, 0.35]],
                    [[0.13, 0.22], [0.3, 0.22]]],
    "one": [[[0.9, 0.05], [0.88, 0.95]]],
    "dash": [[[0.2, 0.5], [0.8, 0.5]]],
    "flag": [[[0.1, 0.9], [0.1, 0.1], [0.6, 0.1], [0.6, 0.2], [0.1, 0.2]]],
}  # fmt: skip


@pytest.fixture(scope="module")
def evaluate(node):
    def run(expression, *, scripts=("network.js", "drawing.js"), page=""):
        texts = "\n".join((web_page.PARTS / name).read_text() for name in scripts)
        given = {"scripts": texts, "expression": expression, "page": page}
        done = subprocess.run(
            [node, "-e", DRIVER],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize("name", ["lenet5", "double_cnn", "triple_cnn", "fast_cnn"])
def test_the_page_predicts_as_the_run(name, make_run, images, evaluate):
    run = make_run(name)
    page = export.FORMATS["html"].make(run).decode()
    assert len(page) < 6_000_000
    found = evaluate(
        PREDICT % json.dumps(images[:20].reshape(20, -1).tolist()), page=page
    )
    expected = run.predict(images[:20])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 1e-3


OPERATIONS = {
    "activations": lambda x: jnp.tanh(-x) + jnp.exp(jnp.log(x) * jnp.abs(x - 0.5)),
    "silu": lambda x: jax.nn.silu(x) + jax.lax.rsqrt(x) - jnp.sqrt(x) * jnp.square(x),
    "limits": lambda x: jnp.minimum(jnp.maximum(x, 0.4), 2 - x),
    "channels": lambda x: (jnp.arange(6.0)[None, None, None] - x) / x,
    "strides": lambda x: jax.lax.conv_general_dilated(
        x,
        jnp.sin(jnp.arange(180.0)).reshape(5, 2, 6, 3),
        (2, 1),
        ((1, 2), (0, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    ),
    "pools": lambda x: jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, 2, 1, 1), (1, 1, 2, 1), "VALID"
    ),
    "pad": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 3), (0, 0)), constant_values=0.25),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_computes_what_jax_does(name, evaluate):
    def function(_, images):
        x = (images.astype(jnp.float32) / 255 + 0.1).reshape(-1, 5, 4, 6)
        x = OPERATIONS[name](x).reshape(images.shape[0], -1)
        return x @ jnp.cos(jnp.arange(3.0 * x.shape[1])).reshape(x.shape[1], 3)

    image = np.random.default_rng(0).integers(0, 256, (1, 5, 24), np.uint8)
    traced = graph.trace(function, {}, (5, 24))
    facts = dict.fromkeys(re.findall(r"{{(\w+)}}", TEMPLATE), "")
    page = web_page.to_bytes(traced, classes=tuple("abc"), facts=facts).decode()
    found = evaluate(PREDICT % json.dumps([image.ravel().tolist()]), page=page)
    expected = jax.nn.softmax(function({}, image), axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


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


def test_what_a_page_cannot_hold_is_said(make_run, monkeypatch):
    make = export.FORMATS["html"].make
    with pytest.raises(UserError, match="would have 23 MB, and 8 .*--format=onnx"):
        make(make_run("vgg16"))
    monkeypatch.setattr(web_page, "MOST_BYTES", 1e9)
    with pytest.raises(UnsupportedError, match="HTML: .*broadcast_in_dim.*=stablehlo"):
        make(make_run("vgg16"))


def test_what_a_page_says_is_text_and_not_markup(make_run):
    run = make_run("lenet5")
    traced = graph.trace(*network.make_logits(run), network.INPUT_SHAPE)
    names = re.findall(r"{{(\w+)}}", TEMPLATE)
    facts = dict.fromkeys(names, "<b>&")
    page = web_page.to_bytes(traced, classes=("</script>",) * 10, facts=facts).decode()
    assert "<b>&" not in page and page.count("&lt;b&gt;&amp;") >= 5
    assert page.count("</script>") == 3
    assert not re.findall(r'(?:src|href)="(?!data:,")|https?://|\bfetch\(', page)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile"), size=(390, 844)) as driver:
        yield driver


def test_a_browser_predicts_as_the_run_and_reads_what_is_drawn(
    browser, tmp_path, images
):
    from selenium.webdriver import Keys

    from mnist_jax.runs.load import load

    run = load()
    export.write(run, tmp_path / "page.html", format="html")
    browser.get((tmp_path / "page.html").as_uri())
    encoded = base64.b64encode(images.tobytes()).decode()
    found = browser.execute_script(
        "const letters = atob(arguments[0]);"
        "const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));"
        "return Array.from(window.predict(bytes));",
        encoded,
    )
    expected = run.predict(images)
    np.testing.assert_allclose(np.reshape(found, (-1, 10)), expected, rtol=0, atol=1e-4)

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
    shares = [
        item.text for item in browser.find_elements("css selector", ".bars .best")
    ]
    assert len(shares) == 1 and shares[0].startswith("3")
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
    width = "return document.documentElement.scrollWidth <= window.innerWidth"
    assert browser.execute_script(width)
    assert browser.get_log("browser") == []
