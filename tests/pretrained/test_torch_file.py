"""PyTorch's files, which PyTorch wrote, read without it; and those that carry code."""

import base64
import collections
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mnist_jax.pretrained import readers, torch_file
from mnist_jax.runs.weights import WeightsError

# Files that PyTorch wrote, in base64, and the tensors in them.
WRITTEN = json.loads((Path(__file__).parent / "torch_files.json").read_text())
FILES = ["torch_zip.pth", "torch_legacy.pth"]
DICT, MODULE = "a dict", "a module's state_dict()"
every_layout = pytest.mark.parametrize("name", FILES)


def content_of(name, saved=DICT):
    return base64.b64decode(WRITTEN[saved]["files"][name])


@every_layout
@pytest.mark.parametrize("saved", [DICT, MODULE])
def test_every_tensor_is_what_pytorch_saved(name, saved, tmp_path):
    """Transposed, cut out of another, of several types, empty, a Parameter.

    A module's state is an OrderedDict with an attribute, which a dict cannot have.
    """
    (tmp_path / name).write_bytes(content_of(name, saved))
    tensors, metadata = readers.read(tmp_path / name)
    assert metadata == {}
    assert tensors.keys() == WRITTEN[saved]["tensors"].keys()
    for key, tensor in tensors.items():
        expected = WRITTEN[saved]["tensors"][key]
        assert tensor.dtype == expected["dtype"]
        values = np.array(expected["values"], expected["dtype"])
        np.testing.assert_array_equal(tensor, values.reshape(expected["shape"]))


class Evil:
    """Unpickled in the ordinary way, it makes a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def write(path: Path, state: object, layout: str) -> None:
    """As PyTorch lays files out, but for the tensors."""
    if layout == FILES[0]:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(state, protocol=2))
        return
    with path.open("wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, state, []):
            pickle.dump(value, file, protocol=2)


@every_layout
def test_a_file_that_carries_code_is_refused_and_runs_none(name, tmp_path):
    made, path = tmp_path / "made", tmp_path / name
    hidden: Any = collections.OrderedDict()
    hidden._metadata = Evil(made)
    for state in ({"weight": Evil(made)}, hidden):
        write(path, state, name)
        with pytest.raises(
            WeightsError, match=r"it would call \w+\.mkdir, which.*code"
        ):
            readers.read(path)
        assert not made.exists()
    # It would have run.
    pickle.loads(pickle.dumps(Evil(made)))
    assert made.exists()


@every_layout
@pytest.mark.parametrize("state", [[1, 2], {"weight": 3}, {4: "x"}, "weights"])
def test_something_other_than_tensors_by_name_is_refused(name, state, tmp_path):
    write(tmp_path / name, state, name)
    with pytest.raises(WeightsError, match="other than named tensors"):
        readers.read(tmp_path / name)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_the_weights_of_a_checkpoint_are_those_alone(key):
    storage = torch_file._Storage("0", np.dtype("<f4"), 4)
    state = {"weight": torch_file._Tensor(storage, 0, (2, 2), (2, 1))}
    others = {"epoch": 3, "optimizer_state_dict": {"lr": 0.1}}
    assert torch_file._state_dict(others | {key: state}) == state


@every_layout
def test_a_file_cut_off_anywhere_is_an_error_and_nothing_else(name, tmp_path):
    content = content_of(name)
    path = tmp_path / name
    for size in range(10, len(content) - 1, 7):
        path.write_bytes(content[:size])
        try:
            torch_file.read(path)
        except WeightsError as error:
            assert str(path) in str(error)
        else:
            pytest.fail(f"{size} of {len(content)} bytes were enough")


@every_layout
def test_a_file_with_a_byte_changed_is_read_or_refused(name, tmp_path):
    """Never another exception: a pickle of rubbish can ask for anything."""
    content = content_of(name)
    path = tmp_path / name
    rng = np.random.default_rng(0)
    for place in rng.choice(len(content), 300, replace=False):
        changed = bytearray(content)
        changed[place] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        try:
            readers.read(path)
        except WeightsError:
            pass


def test_a_tensor_may_not_reach_beyond_its_numbers():
    storage = torch_file._Storage("0", np.dtype("<f4"), 4)
    numbers = {"0": np.arange(4, dtype="<f4").tobytes()}
    good = torch_file._Tensor(storage, 0, (2, 2), (2, 1))
    np.testing.assert_array_equal(torch_file._view(good, numbers), [[0, 1], [2, 3]])
    for bad in (
        good._replace(offset=1),
        good._replace(offset=-1),
        good._replace(strides=(3, 1)),
        good._replace(strides=(-1, 1)),
        good._replace(shape=(3, 2)),
    ):
        with pytest.raises(WeightsError, match="larger than the numbers"):
            torch_file._view(bad, numbers)


def test_a_small_file_that_announces_much_is_refused(tmp_path, monkeypatch):
    storage = torch_file._Storage("0", np.dtype("<f4"), 4)
    repeated = torch_file._Tensor(storage, 0, (10**9,), (0,))
    with monkeypatch.context() as patch:
        patch.setattr(torch_file, "_read_zip", lambda _: ({"x": repeated}, {}))
        (tmp_path / "x.pth").write_bytes(content_of(FILES[0]))
        with pytest.raises(WeightsError, match="announces 8,000,000,000 bytes"):
            readers.read(tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**26 + 1))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["layer_names"] = ["x"]
        file.create_group("x").attrs["weight_names"] = ["kernel:0"]
        file["x"].create_dataset("kernel:0", (10**12,), "f4", chunks=(10**6,))
    for path in tmp_path.iterdir():
        with pytest.raises(WeightsError, match="announces"):
            readers.read(path)


def test_a_zip_file_or_a_pickle_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps("anything", protocol=2))
    for path in tmp_path.iterdir():
        with pytest.raises(WeightsError, match="PyTorch did not write it"):
            readers.read(path)


def test_a_high_number_in_the_memo_takes_no_memory(tmp_path):
    path, content = tmp_path / FILES[1], content_of(FILES[1])
    place = content.index(b"q\x02")  # stored as the number 2, in a byte
    number = b"r" + struct.pack("<I", 2**28)
    path.write_bytes(content[:place] + number + content[place + 2 :])
    tracemalloc.start()
    try:
        assert readers.read(path)[0]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000
