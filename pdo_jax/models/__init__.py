"""Networks, each a short file with its parameter count, and its source if it was published."""

from pdo_jax.models.invariant import invariant_resnet as invariant_resnet
from pdo_jax.models.mnist_rot import MnistRot as MnistRot
from pdo_jax.models.mnist_rot import mnist_cnn as mnist_cnn
from pdo_jax.models.mnist_rot import mnist_rot as mnist_rot
from pdo_jax.models.resnet import ResNet as ResNet
from pdo_jax.models.resnet import resnet8 as resnet8
from pdo_jax.models.resnet import resnet26 as resnet26
from pdo_jax.models.resnet import resnet44 as resnet44
from pdo_jax.models.resnet import wide_resnet26 as wide_resnet26
from pdo_jax.models.volume import VolumeClassifier as VolumeClassifier
from pdo_jax.models.volume import volume_classifier as volume_classifier
