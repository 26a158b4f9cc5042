"""Strict numerics and run-time type checks for every test.

Tests run in float64, a silent mix of dtypes is an error, and so is a NaN. The annotations of
`pdo_jax` are checked at every call; a test of an error message, which wants the error that a user
gets, asks for the fixture `unhooked`.
"""

import jax
import pytest
from jaxtyping import config as jaxtyping_config
from jaxtyping import install_import_hook

import tests.typecheck as typecheck

# Before the first import of pdo_jax.
install_import_hook("pdo_jax", f"{typecheck.__name__}.typechecked")

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_debug_nans", True)


@pytest.fixture
def unhooked():
    """Let wrong arguments through to the library's own checks, as they come from users."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)
