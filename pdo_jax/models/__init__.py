"""Published networks, each a short file with its source and its parameter count."""

from pdo_jax.models.mnist_rot import MnistRot as MnistRot
from pdo_jax.models.mnist_rot import mnist_rot as mnist_rot
