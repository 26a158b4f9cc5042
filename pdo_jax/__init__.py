"""pdo_jax: equivariant layers made of differential operators, in JAX and Flax.

Arrays are `(..., H, W, C)` images and `(..., H, W, G, C)` fields on a group G; x points right and
y up, angles run counter-clockwise.
"""

from pdo_jax import export as export
from pdo_jax import models as models
from pdo_jax import nn as nn
from pdo_jax import pde as pde
from pdo_jax import relaxed as relaxed
from pdo_jax.basis import FilterBasis as FilterBasis
from pdo_jax.basis import filter_basis as filter_basis
from pdo_jax.conv import group_conv as group_conv
from pdo_jax.conv import group_conv_transpose as group_conv_transpose
from pdo_jax.conv import lift_conv as lift_conv
from pdo_jax.conv import pointwise_group_conv as pointwise_group_conv
from pdo_jax.equivariance import assert_equivariant as assert_equivariant
from pdo_jax.equivariance import convergence_errors as convergence_errors
from pdo_jax.equivariance import convergence_order as convergence_order
from pdo_jax.equivariance import equivariance_error as equivariance_error
from pdo_jax.fields import act as act
from pdo_jax.fields import pullback as pullback
from pdo_jax.fields import restrict as restrict
from pdo_jax.groups import Group as Group
from pdo_jax.groups import cyclic as cyclic
from pdo_jax.groups import dihedral as dihedral
from pdo_jax.groups import group as group
from pdo_jax.kernels import group_kernel as group_kernel
from pdo_jax.kernels import lift_kernel as lift_kernel
from pdo_jax.windows import EquivarianceWarning as EquivarianceWarning

__version__ = "0.1.0"
