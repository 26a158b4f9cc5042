"""The picture of a training: what is drawn is what was measured."""

import numpy as np
import pytest

from experiments import plots


def curve(scale=1.0, **more):
    return {"loss": [0.4 * scale, 0.2 * scale], "accuracy": [0.8, 0.9], **more}


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Return the axes of the picture by their words, once it is drawn."""

    def draw(curves):
        figures = []
        monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
        plots.training(tmp_path / "training.png", curves)
        return {axes.get_ylabel(): axes for axes in figures[0].axes}, figures[0].legends[0]

    return draw


def test_panels_are_those_that_were_measured(drawn):
    assert list(drawn({"net": [curve()]})[0]) == ["cross-entropy in training", "error, %"]
    full = curve(equivariance_error=[0.1, 0.2], learning_rate=[1e-3, 0.0])
    assert list(drawn({"net": [full]})[0]) == [panel.axis for panel in plots.PANELS]


def test_the_mean_is_drawn_over_the_seeds(drawn):
    panels, legend = drawn({"net": [curve(1.0), curve(3.0)], "other": [curve(5.0)]})
    lines = panels["cross-entropy in training"].get_lines()
    found = [(line.get_ydata().tolist(), line.get_linewidth() < 1) for line in lines]
    expected = [([0.4, 0.2], True), ([1.2, 0.6], True), ([0.8, 0.4], False), ([2.0, 1.0], False)]
    for (values, thin), (numbers, is_seed) in zip(found, expected, strict=True):
        assert values == pytest.approx(numbers) and thin == is_seed
    assert [text.get_text() for text in legend.get_texts()] == ["net", "other"]


def test_epochs_without_a_number_are_left_out(drawn):
    panels, legend = drawn({"net": [curve(held_out=[np.nan, 0.75])]})
    training, held_out = panels["error, %"].get_lines()
    np.testing.assert_allclose(training.get_xydata(), [[1, 20], [2, 10]])
    np.testing.assert_allclose(held_out.get_xydata(), [[2, 25]])
    assert [text.get_text() for text in legend.get_texts()] == ["net", "net, held out"]


def test_picture_is_written(tmp_path):
    plots.training(tmp_path / "training.png", {"net": [curve()]})
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")


def test_seeds_may_end_in_different_epochs(drawn):
    """As those do that train for a time."""
    short = {"loss": [0.4], "accuracy": [0.8]}
    lines = drawn({"net": [short, curve(3.0)]})[0]["cross-entropy in training"].get_lines()
    found = [line.get_xydata().tolist() for line in lines]
    expected = [[[1, 0.4]], [[1, 1.2], [2, 0.6]], [[1, 0.8], [2, 0.6]]]
    for points, numbers in zip(found, expected, strict=True):
        np.testing.assert_allclose(points, numbers)


def test_a_single_filter_is_drawn(tmp_path):
    plots.filters(tmp_path / "filters.png", np.ones((1, 3, 3)), [0.0])
    assert (tmp_path / "filters.png").is_file()
