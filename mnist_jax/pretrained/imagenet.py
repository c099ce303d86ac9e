"""Finding, downloading and verifying the published ImageNet weights."""

import hashlib
import os
from pathlib import Path

from mnist_jax import files
from mnist_jax.runs.weights import WeightsError

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_NO_TOP = "weights_tf_dim_ordering_tf_kernels_notop.h5"
_TORCH = "https://download.pytorch.org/models"
# Folders to look in: of the user's choice, and those of Keras and PyTorch.
_VARIABLES = ("IMAGENET_WEIGHTS_DIR", "VGG16_WEIGHTS_DIR")
_CACHES = ("~/.keras/models", "~/.cache/torch/hub/checkpoints")


def _keras(path: str, md5: str) -> tuple[str, str]:
    return f"{_KERAS}/{path}_{_NO_TOP}", f"md5:{md5}"


PUBLISHED = {
    "alexnet_owt": (
        f"{_TORCH}/alexnet-owt-7be5be79.pth",
        "sha256:7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    ),
    "densenet121": _keras("densenet/densenet121", "30ee3e1110167f948a6b9946edeeb738"),
    "inception_v3": _keras(
        "inception_v3/inception_v3", "bcbd6486424b2319ff4ef7d526e38f63"
    ),
    "resnet50v2": _keras("resnet/resnet50v2", "fac2f116257151a9d068a22e544a4917"),
    "vgg16": _keras("vgg16/vgg16", "6d6bbae143d832006294945121d1f1fc"),
    "xception_v1": _keras("xception/xception", "b0042744bf5b25fce3cb969f33bebb97"),
}
"""The URL and the checksum, `algorithm:digits`, of the file of each network."""


def find_or_download(network: str) -> Path:
    """Return the path of the published weights of a network, such as "vgg16".

    They are looked for in $IMAGENET_WEIGHTS_DIR, in this package's cache folder and in
    those of Keras and PyTorch, and downloaded if none of these has them.

    Raises:
        WeightsError: there is no such file for this network, or the file is not the
            published one.
        UserError: the file is missing and cannot be downloaded.
    """
    if network not in PUBLISHED:
        raise WeightsError(
            f"--config.model.pretrained=imagenet: there are no such weights for "
            f"{network}, only for {', '.join(PUBLISHED)}."
        )
    url, checksum = PUBLISHED[network]
    algorithm, _, digest = checksum.partition(":")
    named = [os.environ[name] for name in _VARIABLES if os.environ.get(name)]
    folders = [files.expand(folder) for folder in (*named, *_CACHES)]
    folders.insert(len(named), files.cache_folder())
    name = url.rpartition("/")[2]
    for path in (folder / name for folder in folders):
        if path.is_file():
            with path.open("rb") as file:
                found = hashlib.file_digest(file, algorithm).hexdigest()
            if found == digest:
                return path
            raise WeightsError(
                f"{path} is damaged or another file: its {algorithm} is {found}, that "
                f"of the published file {digest}. Delete it to have it downloaded, or "
                "name another file with --config.model.pretrained=FILE."
            )

    from mnist_jax.files import download  # imported late: only downloads need pooch

    path = folders[0] / name
    download.fetch(
        [url],
        path,
        checksum=checksum,
        way_out=f"Copy the file from {url} ({algorithm} {digest}) to a folder and set "
        f"{_VARIABLES[0]}=FOLDER, or give its path with "
        "--config.model.pretrained=FILE; or train from scratch with "
        "--config.model.pretrained=none.",
    )
    return path
