"""Networks, each a short file with its parameter count, and its source if it was published."""

from pdo_jax.models.invariant import invariant_resnet as invariant_resnet
from pdo_jax.models.mnist_rot import MnistRot as MnistRot
from pdo_jax.models.mnist_rot import mnist_cnn as mnist_cnn
from pdo_jax.models.mnist_rot import mnist_rot as mnist_rot
from pdo_jax.models.pde import PDEClassifier as PDEClassifier
from pdo_jax.models.pde import PDESegmenter as PDESegmenter
from pdo_jax.models.pde import pde_classifier as pde_classifier
from pdo_jax.models.pde import pde_segmenter as pde_segmenter
from pdo_jax.models.relaxed import RelaxedClassifier as RelaxedClassifier
from pdo_jax.models.relaxed import relaxed_classifier as relaxed_classifier
from pdo_jax.models.resnet import ResNet as ResNet
from pdo_jax.models.resnet import resnet8 as resnet8
from pdo_jax.models.resnet import resnet26 as resnet26
from pdo_jax.models.resnet import resnet44 as resnet44
from pdo_jax.models.resnet import wide_resnet26 as wide_resnet26
from pdo_jax.models.rotnist import LeNet5 as LeNet5
from pdo_jax.models.rotnist import RotNist as RotNist
from pdo_jax.models.rotnist import lenet5 as lenet5
from pdo_jax.models.rotnist import rotnist_gcnn as rotnist_gcnn
from pdo_jax.models.rotnist import rotnist_pde as rotnist_pde
from pdo_jax.models.vessels import VesselSegmenter as VesselSegmenter
from pdo_jax.models.vessels import vessel_cnn as vessel_cnn
from pdo_jax.models.vessels import vessel_gcnn as vessel_gcnn
from pdo_jax.models.vessels import vessel_pde as vessel_pde
from pdo_jax.models.volume import VolumeClassifier as VolumeClassifier
from pdo_jax.models.volume import volume_classifier as volume_classifier
