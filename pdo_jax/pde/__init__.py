"""Layers' pure functions that solve partial differential equations on the plane and on SE(2)."""

from pdo_jax.pde import geometry as geometry
from pdo_jax.pde.cake import cake_basis as cake_basis
from pdo_jax.pde.cake import cake_lift as cake_lift
from pdo_jax.pde.cake import cake_wavelets as cake_wavelets
from pdo_jax.pde.diffusion import diffusion as diffusion
from pdo_jax.pde.diffusion import linear_conv as linear_conv
from pdo_jax.pde.geometry import Finsler as Finsler
from pdo_jax.pde.kernels import diffusion_kernel as diffusion_kernel
from pdo_jax.pde.kernels import morphological_kernel as morphological_kernel
from pdo_jax.pde.morphology import dilation as dilation
from pdo_jax.pde.morphology import erosion as erosion
from pdo_jax.pde.morphology import morphological_conv as morphological_conv
from pdo_jax.pde.projection import dilated_projection as dilated_projection
from pdo_jax.pde.shock import Switch as Switch
from pdo_jax.pde.shock import diffusion_shock as diffusion_shock
from pdo_jax.pde.splines import spline_basis as spline_basis
from pdo_jax.pde.transport import convection as convection
