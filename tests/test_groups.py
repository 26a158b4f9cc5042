"""Point groups: tables against the rules of rotations and mirrors, names, and checks."""

import collections
import dataclasses
import itertools
import math
import pickle

import numpy as np
import pytest

import pdo_jax as pdo

SMALL = [f"p{n}" for n in range(1, 17)] + [f"p{n}m" for n in range(1, 13)]
NAMES = [*SMALL, "p100", "p60m"]
SPACE = ("T", "O", "Oh", "I")


def parse(name):
    """`p{n}` or `p{n}m` as (n, whether there are mirrors)."""
    return int(name.strip("pm")), name.endswith("m")


def rule(name):
    """Product and inverse by r^a m^s r^b m^t = r^(a + (-1)^s b) m^(s + t), without any matrix."""
    n, mirrors = parse(name)
    elements = [(a, s) for s in range(1 + mirrors) for a in range(n)]
    product = [
        [((a + (-1) ** s * b) % n) + n * ((s + t) % 2) for b, t in elements] for a, s in elements
    ]
    inverse = [(-a) % n if s == 0 else a + n for a, s in elements]
    return np.array(product), np.array(inverse)


@pytest.mark.parametrize("name", NAMES)
def test_tables(name):
    G = pdo.group(name)
    product, inverse = rule(name)
    np.testing.assert_array_equal(G.product, product)
    np.testing.assert_array_equal(G.inverse, inverse)
    assert G.order == len(G.matrices) == len(product)
    assert G.ndim == 2


@pytest.mark.parametrize("name", NAMES)
def test_matrices(name):
    n, mirrors = parse(name)
    for k, matrix in enumerate(pdo.group(name).matrices):
        c, s = math.cos(2 * math.pi * (k % n) / n), math.sin(2 * math.pi * (k % n) / n)
        expected = [[c, -s], [s, c]] if k < n else [[c, s], [s, -c]]  # R diag(1, -1) flips y first
        np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-14)


def test_rotations_turn_counter_clockwise_with_y_up():
    np.testing.assert_allclose(pdo.group("p4").matrices[1] @ [1, 0], [0, 1], atol=1e-15)
    np.testing.assert_allclose(pdo.group("p8").matrices[1] @ [1, 0], [0.5**0.5, 0.5**0.5])
    np.testing.assert_allclose(pdo.group("p1m").matrices[1] @ [2, 3], [2, -3])


@pytest.mark.parametrize("name", [*NAMES, *SPACE])
def test_the_table_is_the_product_of_matrices(name):
    G = pdo.group(name)
    products = np.einsum("gij,hjk->ghik", G.matrices, G.matrices)
    np.testing.assert_allclose(G.matrices[G.product], products, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", [*SMALL, *SPACE])
def test_axioms(name):
    G = pdo.group(name)
    everything = np.arange(G.order)
    left = G.product[G.product]  # [a, b, c] -> (a b) c
    right = G.product[:, G.product]  # a (b c)
    np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(G.product[0], everything)
    np.testing.assert_array_equal(G.product[:, 0], everything)
    np.testing.assert_array_equal(G.product[everything, G.inverse], 0)
    np.testing.assert_array_equal(G.product[G.inverse, everything], 0)
    for table in (G.product, G.product.T):  # every row and column is a permutation
        np.testing.assert_array_equal(np.sort(table), np.tile(everything, (G.order, 1)))


def test_mirrors_do_not_commute_with_rotations():
    assert not np.array_equal(pdo.group("p3m").product, pdo.group("p3m").product.T)
    assert np.array_equal(pdo.group("p6").product, pdo.group("p6").product.T)


@pytest.mark.parametrize("name", NAMES)
def test_on_grid(name):
    n, mirrors = parse(name)
    quarter = [k % n * 4 % n == 0 for k in range(n * (1 + mirrors))]  # the angle is a quarter turn
    np.testing.assert_array_equal(pdo.group(name).on_grid, quarter)


@pytest.mark.parametrize(
    "names",
    [
        ("p8", "C8", pdo.cyclic(8), pdo.group("p8"), pdo.group(pdo.group("C8"))),
        ("p6m", "D6", pdo.dihedral(6)),
        ("p1", "C1", pdo.cyclic(1)),
        ("p1m", "D1", pdo.dihedral(1)),
        ("p12", pdo.Group("p12", np.array(pdo.cyclic(12).matrices))),
        *((name, pdo.group(name), pdo.Group(name, pdo.group(name).matrices)) for name in SPACE),
    ],
    ids=lambda names: names[0],
)
def test_names(names):
    groups = [pdo.group(name) for name in names]
    assert {G.name for G in groups} == {names[0]}
    assert all(a == b and hash(a) == hash(b) for a in groups for b in groups)
    assert len(set(groups)) == 1


def test_different_groups_are_unequal():
    groups = [pdo.group(name) for name in (*NAMES, *SPACE)]
    assert len(set(groups)) == len(groups)
    assert pdo.group("p4m") != pdo.group("p8")  # of the same order
    assert pdo.group("p4") != "p4" and pdo.group("p4") is not None
    turned = np.stack([np.eye(2), np.diag([-1.0, 1.0])])  # the other mirror, by the same name
    assert pdo.Group("p1m", turned) != pdo.group("p1m")


@pytest.mark.parametrize("name", ["p1", "p8", "p6m", *SPACE])
def test_pickle(name):
    G = pdo.group(name)
    copy = pickle.loads(pickle.dumps(G))
    assert copy == G and hash(copy) == hash(G) and copy is not G
    np.testing.assert_array_equal(copy.product, G.product)
    assert not copy.matrices.flags.writeable


@pytest.mark.parametrize("attribute", ["matrices", "product", "inverse", "on_grid"])
def test_arrays_are_read_only(attribute):
    array = getattr(pdo.group("p4m"), attribute)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = array[1]


@pytest.mark.parametrize("attribute", ["name", "matrices", "product", "inverse"])
def test_groups_are_immutable(attribute):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(pdo.group("p4m"), attribute, None)


def test_a_group_keeps_its_own_copy():
    matrices = np.stack([np.eye(2), -np.eye(2)])
    G = pdo.Group("half-turns", matrices)
    matrices[1] = 0
    np.testing.assert_array_equal(G.matrices[1], -np.eye(2))
    assert matrices.flags.writeable


def test_index():
    G = pdo.group("p6m")
    rng = np.random.default_rng(0)
    elements = rng.integers(G.order, size=(2, 3))
    np.testing.assert_array_equal(G.index(G.matrices[elements]), elements)
    with pytest.raises(ValueError, match="not an element of the group 'p6m'"):
        G.index(pdo.group("p4").matrices[1])


QUARTERS = np.array(pdo.group("p4").matrices)


@pytest.mark.parametrize(
    ("matrices", "message"),
    [
        pytest.param(QUARTERS[:3], "closed under products", id="not closed"),
        pytest.param(QUARTERS[[0, 1]], "closed under products", id="no inverse"),
        pytest.param(QUARTERS[[1, 0, 2, 3]], "must be the identity", id="identity not first"),
        pytest.param(QUARTERS[[0, 2, 2, 0]], "must be distinct", id="copies"),
        pytest.param(QUARTERS * [[1.0, 1.1]], "must be orthogonal", id="not orthogonal"),
        pytest.param(np.stack([np.eye(2), np.ones((2, 2))]), "orthogonal", id="singular"),
        pytest.param(np.eye(2), r"\(order, ndim, ndim\) is needed", id="one matrix"),
        pytest.param(np.ones((1, 2, 3)), r"\(order, ndim, ndim\) is needed", id="not square"),
        pytest.param(np.ones((0, 2, 2)), r"\(order, ndim, ndim\) is needed", id="empty"),
    ],
)
def test_what_is_not_a_group_is_refused(matrices, message):
    with pytest.raises(ValueError, match=message):
        pdo.Group("wrong", matrices)


def test_a_group_in_another_frame():
    """The quarter turns of space about a slanted axis: closed, though no matrix is on the grid."""
    axis = np.array([1.0, 2.0, 2.0]) / 3
    cross = np.cross(np.eye(3), axis) * -1
    turns = [np.eye(3) + math.sin(t) * cross + (1 - math.cos(t)) * cross @ cross for t in
             (0, math.pi / 2, math.pi, 3 * math.pi / 2)]  # fmt: skip
    G = pdo.Group("slanted", np.stack(turns))
    np.testing.assert_array_equal(G.product, rule("p4")[0])
    assert G.ndim == 3 and G.on_grid.tolist() == [True, False, False, False]


# ---------------------------------------------------------------------------------- groups of space

# How many elements turn by which angle, in degrees; mirrors by minus the angle of -g. Facts of the
# solids: a cube has 3 axes through faces, 4 through corners, 6 through edges, and so on.
ANGLES = {
    "T": {0: 1, 180: 3, 120: 8},
    "O": {0: 1, 180: 3 + 6, 120: 8, 90: 6},
    "Oh": {0: 1, 180: 9, 120: 8, 90: 6, "-0": 1, "-180": 9, "-120": 8, "-90": 6},
    "I": {0: 1, 180: 15, 120: 20, 72: 12, 144: 12},
}
ON_GRID = {"T": 12, "O": 24, "Oh": 48, "I": 12}


def half_turns_and_cycles():
    """T by the rule of its docstring, from loops over axes."""
    found = []
    for c, s in itertools.product(range(3), range(4)):
        matrix = np.zeros((3, 3))
        for axis in range(3):  # x goes to y, y to z, z to x, c times; then a half turn about s
            target = (axis + c) % 3
            matrix[target, axis] = 1 if s in (0, target + 1) else -1
        found.append(matrix)
    return np.array(found)


@pytest.mark.parametrize("name", SPACE)
def test_elements_by_their_angle(name):
    def angle(matrix):
        sign = round(np.linalg.det(matrix))
        degrees = round(math.degrees(math.acos(np.clip((sign * np.trace(matrix) - 1) / 2, -1, 1))))
        return degrees if sign > 0 else f"-{degrees}"

    G = pdo.group(name)
    assert collections.Counter(map(angle, G.matrices)) == ANGLES[name]
    assert G.order == sum(ANGLES[name].values()) and G.ndim == 3 and G.name == name


@pytest.mark.parametrize("name", SPACE)
def test_what_the_grid_holds(name):
    G = pdo.group(name)
    assert G.on_grid.sum() == ON_GRID[name]
    on_grid = G.matrices[G.on_grid]
    np.testing.assert_array_equal(np.abs(on_grid).sum(1), 1)  # entries are exactly -1, 0 and 1
    np.testing.assert_array_equal(np.abs(on_grid).sum(2), 1)
    assert not np.any(np.signbit(on_grid) & (on_grid == 0))


def test_order_of_the_elements_of_space():
    tetra, octa, full, icosa = (pdo.group(name).matrices for name in SPACE)
    np.testing.assert_array_equal(tetra, half_turns_and_cycles())
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])  # about z, as p4's in the plane
    np.testing.assert_array_equal(octa, np.concatenate([tetra, tetra @ quarter]))
    np.testing.assert_array_equal(octa[12, :2, :2], pdo.group("p4").matrices[1])
    np.testing.assert_array_equal(full, np.concatenate([octa, -octa]))
    fifth = icosa[12]
    vertex = np.array([0, 1, (1 + 5**0.5) / 2])
    np.testing.assert_allclose(fifth @ vertex, vertex, atol=1e-15)
    across = np.cross(vertex, [1, 0, 0])
    turned = np.arctan2(
        np.cross(across, fifth @ across) @ vertex / np.linalg.norm(vertex),
        across @ fifth @ across,
    )  # counter-clockwise, seen from the vertex
    assert turned == pytest.approx(2 * math.pi / 5, abs=1e-15)
    powers = [tetra @ np.linalg.matrix_power(fifth, f) for f in range(5)]
    np.testing.assert_allclose(icosa, np.concatenate(powers), atol=1e-15)


def test_the_icosahedron_is_mapped_to_itself():
    golden = (1 + 5**0.5) / 2
    corners = np.array([
        np.roll([0, a, b * golden], shift)
        for shift in range(3) for a in (-1, 1) for b in (-1, 1)
    ])  # fmt: skip
    images = np.einsum("gij,vj->gvi", pdo.group("I").matrices, corners)
    distances = np.linalg.norm(images[:, :, None] - corners, axis=-1)
    assert np.all(distances.min(-1) < 1e-14)
    images = np.einsum("gij,vj->gvi", pdo.group("O").matrices, corners)  # the cube's are not
    assert np.linalg.norm(images[:, :, None] - corners, axis=-1).min(-1).max() > 0.5


@pytest.mark.parametrize(
    ("small", "large", "index"), [("T", "O", 2), ("T", "Oh", 4), ("O", "Oh", 2), ("T", "I", 5)]
)
def test_subgroups_of_space(small, large, index):
    K, G = pdo.group(small), pdo.group(large)
    np.testing.assert_array_equal(G.index(K.matrices), np.arange(K.order))  # the first elements
    x = np.random.default_rng(0).normal(size=(2, 3, 1, G.order, 2))
    y = np.asarray(pdo.restrict(x, G, K))
    assert y.shape == (2, 3, 1, K.order, index * 2)
    k = 5
    moved = pdo.act(G, k, x, "field")
    np.testing.assert_array_equal(pdo.restrict(moved, G, K), pdo.act(K, k, y, "field"))


@pytest.mark.parametrize(("small", "large"), [("O", "T"), ("O", "I"), ("I", "Oh"), ("p4", "O")])
def test_what_is_no_subgroup_of_space(small, large):
    with pytest.raises(ValueError, match=f"subgroup .={small}. .*pass a"):
        pdo.restrict(np.zeros((1, 1, 1, pdo.group(large).order, 1)), large, small)
