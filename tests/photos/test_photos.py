"""Laws of photographs: their digits are prepared as MNIST's were."""

import contextlib
import io
import os

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import mnist_jax
from mnist_jax import photos
from mnist_jax.data import digits
from mnist_jax.data.dataset import hold_out
from mnist_jax.errors import UserError
from mnist_jax.photos import PhotoError
from mnist_jax.runs import trained
from tests.support import paper


def page(*places, shape=(300, 400), digit=60):
    """Ink with an embedded digit at each of some places: (row, column, index)."""
    images = digits.load()[1].images[..., 0]
    ink = np.zeros(shape, np.float32)
    for row, column, index in places:
        part = paper.enlarge(images[index], digit / 28)
        ink[row : row + digit, column : column + digit] = part
    return ink


def as_picture(ink, *, paper_grey=230, ink_grey=40):
    grey = paper_grey + ink * (ink_grey - paper_grey)
    return Image.fromarray(np.rint(grey).astype(np.uint8))


def prepared(source):
    return np.stack([digit.image for digit in photos.find_digits(source)])


@pytest.fixture(scope="module")
def photograph():
    return paper.photograph(page((80, 90, 3), (100, 220, 7)), np.random.default_rng(1))


def test_every_orientation_gives_the_same_images(photograph):
    expected = photos.find_digits(photograph)
    assert len(expected) == 2
    for orientation, turn in paper.TURNED.items():
        stored = photograph if turn is None else photograph.transpose(turn)
        exif = Image.Exif()
        exif[paper.ORIENTATION] = orientation
        file = io.BytesIO()
        stored.save(file, "PNG", exif=exif)
        file.seek(0)
        for one, other in zip(photos.find_digits(file), expected, strict=True):
            assert one.box == other.box and one.line == other.line
            np.testing.assert_array_equal(one.image, other.image)


def test_transparent_is_white(photograph):
    rng = np.random.default_rng(0)
    alpha = Image.fromarray(rng.integers(150, 256, (300, 400), dtype=np.uint8))
    layer = photograph.copy()
    layer.putalpha(alpha)
    white = Image.new("RGBA", layer.size, "white")
    flattened = Image.alpha_composite(white, layer).convert("RGB")
    np.testing.assert_array_equal(prepared(layer), prepared(flattened))


def test_a_negative_gives_the_same_images():
    grey = np.asarray(as_picture(page((80, 90, 3), (100, 220, 7)))) / 255
    one, other = prepared(grey), prepared(1 - grey)
    assert np.abs(one.astype(float) - other).mean() < 1


@pytest.mark.parametrize("paper_grey, ink_grey", [(0.9, 0.15), (0.8, 0.45), (0.2, 0.7)])
def test_light_does_not_decide_whether_ink_is_dark(paper_grey, ink_grey):
    """A pen or chalk, thin and thick, in a vignette that leaves half the light."""
    thick = page(*((60 + 110 * n, 60 + 120 * n, n) for n in range(4)), shape=(500, 660))
    rows, columns = np.mgrid[-1:1:500j, -1:1:660j]
    light = 1 - 0.25 * (rows**2 + columns**2)
    rng = np.random.default_rng(0)
    for ink in (thick, ndimage.grey_erosion(thick, 3)):
        picture = paper_grey + ink * (ink_grey - paper_grey)
        expected = prepared(picture)
        grainy = picture * light + rng.normal(0, 0.01, picture.shape)
        found = prepared(grainy.clip(0, 1))
        assert found.shape == expected.shape == (4, 28, 28)
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9


def test_ink_on_a_transparent_ground_may_be_dark_or_bright():
    ink = np.rint(255 * page((80, 90, 3), (100, 220, 7))).astype(np.uint8)
    expected = prepared(255 - ink)
    for level in (0, 70, 170, 255):
        layer = Image.new("L", (400, 300), level).convert("RGB")
        layer.putalpha(Image.fromarray(ink))
        found = prepared(layer)
        assert found.shape == expected.shape
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_files_of_16_bits_may_use_fewer(photograph, bits):
    values = np.asarray(photograph.convert("L"))
    deep = Image.fromarray(values.astype(np.uint16) << (bits - 8))
    difference = np.abs(prepared(deep).astype(float) - prepared(values))
    assert difference.mean() < 1


@pytest.mark.parametrize("edge", [170, 250])  # between the digits, and on one
@pytest.mark.parametrize("left, right", [(1, 0.5), (0.5, 1)])
def test_a_sharp_shadow_changes_little(edge, left, right):
    picture = np.asarray(as_picture(page((80, 90, 3), (100, 220, 7)))) / 255
    shadow = np.where(np.arange(400) < edge, left, right)
    one, other = prepared(picture), prepared(picture * shadow)
    assert one.shape == other.shape
    for digit, same in zip(one, other, strict=True):
        assert np.corrcoef(digit.ravel(), same.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("degrees", [0, 9])
@pytest.mark.parametrize("paper_grey, table_grey", [(0.9, 0.35), (0.2, 0.8)])
def test_a_table_around_the_paper_changes_nothing(paper_grey, table_grey, degrees):
    ink = page((80, 90, 3), (100, 220, 7))
    sheet = paper_grey + ink * (1 - 2 * paper_grey)
    turn = {"order": 1, "reshape": True}
    alone = ndimage.rotate(sheet, degrees, cval=paper_grey, **turn)
    inside = ndimage.rotate(np.ones_like(sheet), degrees, **turn)
    on_table = np.full(np.array(inside.shape) + 100, table_grey)
    on_table[50:-50, 50:-50] = inside * alone + (1 - inside) * table_grey
    rng = np.random.default_rng(0)
    on_table += rng.normal(0, 0.01, on_table.shape)
    one, other = (
        prepared(ndimage.gaussian_filter(picture, 1.5).clip(0, 1))
        for picture in (alone, on_table)
    )
    assert one.shape == other.shape
    for digit, same in zip(one, other, strict=True):
        assert np.corrcoef(digit.ravel(), same.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("index", range(10))
def test_a_bold_digit_is_no_sheet_of_paper(index):
    ink = page((0, 0, index), shape=(300, 300), digit=300)
    bold = paper.crop(ndimage.grey_dilation(ink, size=(50, 50)))
    (digit,) = photos.find_digits(np.pad(bold, 30))  # white on black
    height = digit.box.bottom - digit.box.top
    assert height == pytest.approx(bold.shape[0], rel=0.1)


def test_modes_and_formats_do_not_matter(photograph):
    grey = photograph.convert("L")
    expected = prepared(grey)
    values = np.asarray(grey)
    deep = Image.fromarray(values.astype(np.uint16) * 257)
    for same in (
        grey.convert("RGB"),
        grey.convert("P"),
        deep,
        Image.fromarray(values.astype(np.int32) * 257),
        Image.fromarray(values.astype(np.float32) / 255),
        values,
        values.astype(np.float64) / 255,
        np.repeat(values[..., None], 3, axis=2),
    ):
        difference = np.abs(prepared(same).astype(float) - expected)
        assert difference.mean() < 0.5
    assert len(prepared(photograph.convert("CMYK"))) == 2
    two_levels = grey.point(lambda level: 255 * (level > 110)).convert("1")
    assert len(prepared(two_levels)) == 2


def test_digits_are_read_line_by_line():
    places = [(30, 40, 0), (22, 150, 1), (38, 260, 2), (140, 60, 3), (150, 170, 4)]
    found = photos.find_digits(as_picture(page(*places)))
    assert [digit.line for digit in found] == [0, 0, 0, 1, 1]
    for digit, (row, column, _) in zip(found, places, strict=True):
        left, top, right, bottom = digit.box
        assert column - 2 <= left < right <= column + 62
        assert row - 2 <= top < bottom <= row + 62


@pytest.mark.parametrize("degrees", [-10, -5, 5, 10])
def test_lines_may_be_tilted(degrees):
    lines = [(30, 0), (130, 1), (230, 2)]  # 100 pixels apart, 600 long
    places = [
        (row + 8 * (-1) ** column, 30 + 110 * column, 6 * line + column)
        for row, line in lines
        for column in range(6)
    ]
    upright = page(*places, shape=(330, 720))
    tilted = ndimage.rotate(upright, degrees, reshape=True, order=1).clip(0, 1)
    found = photos.find_digits(as_picture(tilted))
    assert [digit.line for digit in found] == [0] * 6 + [1] * 6 + [2] * 6
    lefts = np.reshape([digit.box.left for digit in found], (3, 6))
    assert np.all(np.diff(lefts) > 0)


def test_boxes_are_in_pixels_of_the_whole_picture():
    small = photos.find_digits(as_picture(page((80, 90, 3))))[0].box
    picture = as_picture(page((80, 90, 3))).resize((4000, 3000))
    large = photos.find_digits(picture)[0].box
    np.testing.assert_allclose(np.array(large) / 10, small, atol=2)


@pytest.mark.parametrize("degrees", [2, 10])
def test_lines_of_the_paper_leave_the_digits_as_they_are(degrees):
    ink = page((80, 90, 3), (100, 220, 7))
    rng = np.random.default_rng(2)
    plain = paper.photograph(ink, rng)
    for squared in (False, True):
        lines = paper.ruled(
            ink.shape, rng, spacing=45, squared=squared, degrees=degrees
        )
        ruled = paper.photograph(ink, np.random.default_rng(2), lines=lines)
        one, other = prepared(plain), prepared(ruled)
        assert one.shape == other.shape
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9


def test_faint_and_thin_strokes_are_thick_enough_to_be_seen():
    ink = np.zeros((800, 800), np.float32)
    ink[100:700, 300:303] = 1  # a 1, three pixels wide: a tenth of one when it shrinks
    (image,) = prepared(as_picture(ink, paper_grey=240, ink_grey=190))
    assert image.max() > 200
    assert 1.5 < (image[14] / 255.0).sum() < 3


@pytest.mark.parametrize("index", range(10))
def test_fading_strokes_of_a_digit_that_fills_a_small_picture_are_ink(index):
    bold = ndimage.grey_dilation(page((0, 0, index), shape=(60, 60)), 5)
    bold = np.pad(ndimage.gaussian_filter(bold, 1.5), 8)
    fading = bold * np.linspace(1, 0.35, len(bold))[:, None]
    (found,) = prepared(as_picture(fading, paper_grey=200, ink_grey=100))
    (expected,) = prepared(as_picture(bold))
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.8


@pytest.mark.parametrize(
    "array, message",
    [
        (np.full((300, 300), 200, np.uint8), "no ink"),
        (np.zeros((300, 300), np.uint8), "no ink"),
        (np.zeros((1, 1), np.uint8), "1x1 pixels: too small"),
        (np.zeros((0, 9), np.uint8), "no pixels"),
        (np.zeros((30, 30, 2), np.uint8), "array of shape"),
        (np.full((30, 30), 1.5), "outside 0..1"),
        (np.full((30, 30), np.nan), "outside 0..1"),
        (np.zeros((30, 30), np.int64), "int64"),
    ],
)
def test_pictures_without_digits_are_rejected(array, message):
    with pytest.raises(PhotoError, match=message):
        photos.find_digits(array)


def test_small_pictures_of_noise_are_read_or_rejected():
    rng = np.random.default_rng(0)
    for _ in range(60):
        noise = rng.random(rng.integers(8, 40, 2))
        noise[rng.integers(len(noise))] = 0  # perhaps a line
        with contextlib.suppress(PhotoError):
            assert photos.find_digits(noise)


def test_textures_are_rejected_or_unsure():
    """A palace and a flower are not read with certainty, nor are most parts of them."""
    from sklearn.datasets import load_sample_images

    run = mnist_jax.load_run()
    rng = np.random.default_rng(0)

    def read(picture):
        with contextlib.suppress(PhotoError):
            reading = run.read(picture)
            textures.append(any(d.doubt == "a texture" for d in reading.digits))
            return not reading.unsure
        return False

    textures, certain = [], []
    for picture in load_sample_images().images:
        assert not read(picture)
        for side in np.geomspace(50, 400, 12).astype(int):
            top, left = (rng.integers(length - side) for length in picture.shape[:2])
            certain.append(read(picture[top : top + side, left : left + side]))
    assert np.mean(textures) >= 0.5 and np.mean(certain) <= 0.1


@pytest.fixture(scope="module")
def test_set(official):
    """The official test images, and what the network in the package reads in them."""
    run = mnist_jax.load_run()
    images, labels = official[1].images[..., 0], official[1].labels
    return run, images, labels


def test_a_photographed_digit_is_read_as_the_original(test_set):
    """PHOTOS says how many digits; 100 if it is not set."""
    run, images, _ = test_set
    rng = np.random.default_rng(0)
    count = int(os.environ.get("PHOTOS", "100"))
    images = images[np.linspace(0, len(images) - 1, count).astype(int)]
    expected, same = run.predict(images).argmax(axis=1), 0
    for image, label in zip(images, expected, strict=True):
        picture = paper.photograph_digit(image, rng)
        file = paper.jpeg(picture, orientation=int(rng.integers(1, 9)))
        same += str(run.read(io.BytesIO(file))) == str(label)
    assert same / count >= 0.98


@pytest.mark.parametrize("degrees", [2, 10])
@pytest.mark.parametrize("squared", [False, True])
def test_numbers_on_ruled_paper_are_read(test_set, squared, degrees):
    """PHOTOS says how many digits in the test before; a tenth of that, numbers."""
    run, images, labels = test_set
    rng = np.random.default_rng(1 + squared)
    right = total = 0
    for _ in range(int(os.environ.get("PHOTOS", "100")) // 10):
        chosen = rng.integers(0, len(images), rng.integers(3, 7))
        picture = paper.photograph_number(
            images[chosen], rng, squared=squared, degrees=degrees
        )
        said = str(run.read(io.BytesIO(paper.jpeg(picture))))
        expected = "".join(map(str, labels[chosen]))
        total += len(expected)
        if len(said) == len(expected):
            right += sum(a == b for a, b in zip(said, expected, strict=True))
    assert right / total >= 0.95


def test_most_digits_that_touch_are_unsure(test_set):
    run, images, labels = test_set
    rng = np.random.default_rng(3)
    silent = 0
    for _ in range(40):
        chosen = rng.integers(0, len(images), 2)
        said = run.read(paper.photograph_touching(images[chosen], rng))
        is_right = str(said) == "".join(map(str, labels[chosen]))
        silent += not (is_right or said.unsure)
    assert silent / 40 <= 0.4


def test_the_packaged_threshold_is_its_validation_images(official):
    run = mnist_jax.load_run()
    data = run.data
    _, val = hold_out(official[0], val_size=data.val_size, split_seed=data.split_seed)
    derived = trained.unsure_below(run.logits(val.images))
    np.testing.assert_allclose(trained.PACKAGED_THRESHOLD, derived, atol=1e-3)


class Stripes:
    """Classifies by the number of rows with ink; no network."""

    classes = ("Ankle boot", "<b>", "Ä")
    shape: tuple[int, int] = (28, 28)

    def logits(self, images):
        if images.dtype != np.uint8 or images.shape[1:] != self.shape:
            raise ValueError("images must be [n, 32, 32]")
        rows = (images > 99).any(axis=2).sum(axis=1)
        return np.where(rows[:, None] > [0, 10, 19], 0, -9).astype(np.float32).cumsum(1)


def test_any_classifier_reads_and_a_reading_is_short():
    ink = (page((80, 90, 3), (90, 220, 7)) > 0.5).astype(np.float32)
    reading = photos.classify(Stripes(), 0.5, photos.find_digits(as_picture(ink)))
    assert len(reading.digits) == 2
    for digit in reading.digits:
        assert digit.label in Stripes.classes
        assert digit.probabilities.shape == (3,)
        assert digit.probabilities.sum() == pytest.approx(1)
        assert digit.unsure == (digit.probability < 0.5)
        assert len(repr(digit)) < 80
    assert str(reading) == " ".join(digit.label for digit in reading.digits)
    assert repr(reading).count("\n") == 0 and len(repr(reading)) < 80
    shown = reading._repr_html_()
    assert shown.count("<img") == 2 and "<b>" not in shown


def test_what_fills_a_corner_is_a_digit_only_if_it_is_alone():
    ink = page((80, 90, 3), (80, 220, 7))
    corner = ink.copy()
    corner[:60, 360:] = 1
    found, expected = (prepared(as_picture(picture)) for picture in (corner, ink))
    assert len(found) == 2
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9
    rows, columns = np.nonzero(ink[:, :180] > 0.5)
    tight = ink[rows.min() :, columns.min() : 180]
    assert len(prepared(as_picture(tight))) == 1


def test_ink_that_is_too_wide_for_a_digit_is_unsure():
    ink = (page((80, 90, 3), (80, 220, 7)) > 0.5).astype(np.float32)
    assert not photos.read(Stripes(), 0, as_picture(ink)).unsure
    ink[110:114, 110:260] = 1
    (together,) = photos.read(Stripes(), 0, as_picture(ink)).digits
    assert together.doubt == "too wide" and together.unsure


@pytest.mark.parametrize(
    "blur, shrink, doubt", [(8, 1, "blurred"), (1, 8, "too small")]
)
def test_digits_that_are_blurred_or_small_are_unsure(blur, shrink, doubt):
    ink = ndimage.gaussian_filter(page((80, 90, 3), (80, 220, 7)), blur)
    picture = as_picture(ink / ink.max())
    small = picture.resize((400 // shrink, 300 // shrink), Image.Resampling.BOX)
    found = photos.read(Stripes(), 0, small).digits
    assert found and all(digit.doubt == doubt and digit.unsure for digit in found)


def test_pictures_of_several_digits_are_turned_to_be_read(test_set):
    """Not all are; but an upright one never is, and boxes are those in the file."""
    run, images, labels = test_set
    rng, count = np.random.default_rng(0), 0
    chosen = [np.flatnonzero(labels == digit)[0] for digit in (2, 3, 4, 5, 7)]
    picture = paper.photograph_number(images[chosen], rng, squared=False)
    upright = run.read(picture)
    assert str(upright) == "23457" and upright.turned == 0
    for turns in (1, 2, 3):
        turned = run.read(picture.rotate(-90 * turns, expand=True))
        if turned.turned != 90 * turns:
            continue
        count += 1
        assert str(turned) == "23457"
        for before, after in zip(upright.digits, turned.digits, strict=True):
            place, (width, height) = (
                np.add(before.box[:2], before.box[2:]),
                picture.size,
            )
            for _ in range(turns):  # clockwise
                place = np.array([2 * height - place[1], place[0]])
                width, height = height, width
            found = np.add(after.box[:2], after.box[2:])
            np.testing.assert_allclose(found, place, atol=4)
    assert count >= 2


def test_what_is_no_digit_upright_is_turned_and_unsure():
    ink = np.zeros((300, 400), np.float32)
    ink[145:155, 100:300] = 1  # a 1 on its side
    with pytest.raises(PhotoError, match="lines of ink"):
        photos.find_digits(as_picture(ink))
    reading = mnist_jax.load_run().read(as_picture(ink))
    (digit,) = reading.digits
    assert (str(reading), digit.doubt) == ("1", "turned")
    assert reading.turned in (90, 270) and reading.unsure


def test_a_classifier_of_other_images_is_refused():
    larger = Stripes()
    larger.shape = (32, 32)
    with pytest.raises(UserError, match=r"reads no digits of 28x28: .*\[n, 32, 32\]"):
        photos.read(larger, 0.5, as_picture(page((80, 90, 3))))
