"""Flax NNX layers on images and fields, and pooling. Norms and activations are Flax's own.

`pdo_jax.nn.linen` has the layers for `flax.linen`.
"""

from pdo_jax.nn import linen as linen
from pdo_jax.nn.initializers import he_normal as he_normal
from pdo_jax.nn.layers import PDOConv as PDOConv
from pdo_jax.nn.layers import PDOConvTranspose as PDOConvTranspose
from pdo_jax.nn.layers import PDOLift as PDOLift
from pdo_jax.nn.layers import PointwiseConv as PointwiseConv
from pdo_jax.nn.pde import PDELayer as PDELayer
from pdo_jax.nn.pooling import avg_pool as avg_pool
from pdo_jax.nn.pooling import blur_pool as blur_pool
from pdo_jax.nn.pooling import group_pool as group_pool
from pdo_jax.nn.pooling import max_pool as max_pool
from pdo_jax.nn.pooling import resize as resize
from pdo_jax.nn.relaxed import RelaxedConv as RelaxedConv
from pdo_jax.nn.relaxed import RelaxedLift as RelaxedLift
from pdo_jax.nn.relaxed import equivariance_amounts as equivariance_amounts
from pdo_jax.nn.relaxed import equivariance_penalty as equivariance_penalty
