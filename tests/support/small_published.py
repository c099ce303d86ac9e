"""A published network's like, with BatchNorm, and a thousandth of the work."""

from mnist_jax.models import imagenet, layers


class Normed(imagenet.Published):
    """Two stages of a convolution with BatchNorm and ReLU each."""

    scale = "tf"
    input_size: int = imagenet.input_size(32, "8x8", trained_on=32)

    def body(self):
        return ("conv2d", "batch_normalization"), ("conv2d_1", "batch_normalization_1")

    def run_stage(self, x, stage, *, train):
        conv, norm = self.body()[stage]
        x = layers.Conv(4, (3, 3), (2, 2), use_bias=False, name=conv)(x)
        norm = layers.BatchNorm(relu=True, use_scale=False, name=norm)
        return norm(x, use_running_average=not train)
