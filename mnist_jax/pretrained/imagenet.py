"""Finding, downloading and verifying the ImageNet weights that Keras publishes."""

import hashlib
import os
from pathlib import Path

from mnist_jax import files
from mnist_jax.runs.weights import WeightsError

_SERVER = "https://storage.googleapis.com/tensorflow/keras-applications"
_VARIABLE = "VGG16_WEIGHTS_DIR"

MD5 = {"vgg16": "6d6bbae143d832006294945121d1f1fc"}
"""Of the published files, in hex, by network."""


def find_or_download(network: str) -> Path:
    """Return the path of the published weights of a network, such as "vgg16".

    They are looked for in $VGG16_WEIGHTS_DIR, in this package's cache folder and in
    Keras's own, and downloaded if none of these has them.

    Raises:
        WeightsError: there is no such file for this network, or the file is not the
            published one.
        UserError: the file is missing and cannot be downloaded.
    """
    if network not in MD5:
        raise WeightsError(
            f"--config.model.pretrained=imagenet: there are no such weights for "
            f"{network}, only for {', '.join(MD5)}."
        )
    name, md5 = f"{network}_weights_tf_dim_ordering_tf_kernels_notop.h5", MD5[network]
    folders = [files.cache_folder(), Path("~/.keras/models").expanduser()]
    if named := os.environ.get(_VARIABLE):
        folders.insert(0, Path(named).expanduser())
    for path in (folder / name for folder in folders):
        if path.is_file():
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "md5").hexdigest()
            if found == md5:
                return path
            raise WeightsError(
                f"{path} is damaged or another file: its md5 is {found}, that of the "
                f"published file {md5}. Delete it to have it downloaded, or name "
                "another file with --config.model.pretrained=FILE."
            )

    from mnist_jax.files import download  # imported late: only downloads need pooch

    path, url = folders[0] / name, f"{_SERVER}/{network}/{name}"
    download.fetch(
        [url],
        path,
        checksum=f"md5:{md5}",
        way_out=f"Copy the file from {url} (md5 {md5}) to a folder and set "
        f"{_VARIABLE}=FOLDER, or give its path with --config.model.pretrained=FILE; or "
        "train from scratch with --config.model.pretrained=none (the recipe for that "
        "is --config=configs/vgg16.py:scratch).",
    )
    return path
