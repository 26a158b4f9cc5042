"""Layers' pure functions that solve partial differential equations on the plane and on SE(2)."""

from pdo_jax.pde import geometry as geometry
from pdo_jax.pde.geometry import Finsler as Finsler
from pdo_jax.pde.kernels import diffusion_kernel as diffusion_kernel
from pdo_jax.pde.kernels import morphological_kernel as morphological_kernel
from pdo_jax.pde.morphology import dilation as dilation
from pdo_jax.pde.morphology import erosion as erosion
from pdo_jax.pde.morphology import morphological_conv as morphological_conv
