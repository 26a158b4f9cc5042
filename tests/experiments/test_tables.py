"""Tables, and how several seeds become one number."""

import pytest

from experiments import tables


def test_columns_are_aligned():
    lines = tables.table([["", "CNN", "PDO"], ["accuracy", "9.1", "98.4"]]).splitlines()
    assert lines == ["          CNN   PDO", "-------------------", "accuracy  9.1  98.4"]


def test_spread_needs_several_values():
    assert tables.spread([96.0]) == "96.0"
    assert tables.spread([96.0, 98.0]) == "97.0 +- 1.4"
    assert tables.spread([96.0, 98.0], worst="max") == "97.0 +- 1.4 (worst 98.0)"
    assert tables.spread([1234.0], "{:,.0f}") == "1,234"


@pytest.mark.parametrize(("worst", "value"), [("min", 1.0), ("max", 3.0)])
def test_summary(worst, value):
    expected = {"mean": 2.0, "std": pytest.approx(2**0.5), "worst": value, "seeds": [1.0, 3.0]}
    assert tables.summary([1.0, 3.0], worst) == expected
    assert tables.summary([2.0])["std"] == 0.0
