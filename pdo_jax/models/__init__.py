"""Networks, each a short file with its parameter count, and its source if it was published."""

from pdo_jax.models.mnist_rot import MnistRot as MnistRot
from pdo_jax.models.mnist_rot import mnist_rot as mnist_rot
from pdo_jax.models.volume import VolumeClassifier as VolumeClassifier
from pdo_jax.models.volume import volume_classifier as volume_classifier
