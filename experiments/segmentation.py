"""What a trained segmenter says of whole images, and how good that is.

    images -> logits, one image at a time -> probabilities -> scores

Everything is counted inside the field of view alone.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from flax import nnx
from sklearn.metrics import roc_auc_score

from experiments import evaluation
from experiments.evaluation import Map

SCORES = ("dice", "auc", "accuracy", "sensitivity", "specificity")
THRESHOLD = 0.5
# Okabe and Ito's: hits, false alarms, misses.
COLOURS = {"found": "#009E73", "false": "#D55E00", "missed": "#56B4E9"}


def probabilities(
    model: nnx.Module, images: np.ndarray, normalise: Map | None = None
) -> np.ndarray:
    """Return the probability of a vessel at every pixel.

    Args:
        model: in evaluation mode; maps images to logits of one channel.
        images: `(N, H, W, C)` uint8, or floating in [0, 1].
        normalise: what training applied.

    Returns:
        `(N, H, W)` float32.
    """
    logits = evaluation.logits(model, images, batch=1, normalise=normalise)[..., 0]
    return np.asarray(jax.nn.sigmoid(logits), np.float32)


def scores(probability: np.ndarray, vessels: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """Return how well probabilities agree with what was marked by hand.

        dice = 2 TP / (2 TP + FP + FN)      accuracy = (TP + TN) / (TP + TN + FP + FN)
        sensitivity = TP / (TP + FN)        specificity = TN / (TN + FP)

    TP, FP, TN and FN count the pixels inside at which a probability above 1/2 is right or wrong;
    "auc" is the area under the curve of sensitivity against 1 - specificity over all thresholds,
    scikit-learn's `roc_auc_score`.

    Args:
        probability: of a vessel, floating, in [0, 1].
        vessels: where there are some, of the same shape, bool.
        inside: which pixels count, likewise.

    Raises:
        ValueError: if there are not both, vessels and others, among the pixels that count.

    Example:
        >>> found = scores(np.array([0.9, 0.8, 0.6, 0.1]), np.array([1, 1, 0, 0], bool),
        ...                np.ones(4, bool))
        >>> found["dice"], found["auc"], found["specificity"]
        (0.8, 1.0, 0.5)
    """
    p, truth = probability[inside], vessels[inside]
    if truth.all() or not truth.any():
        raise ValueError(
            "vessels must be marked at some of the pixels inside, and not at all of them: nothing "
            "else can be scored; leave this image out."
        )
    found = p > THRESHOLD
    tp, tn = (int(np.sum(both)) for both in (found & truth, ~found & ~truth))
    fp, fn = (int(np.sum(both)) for both in (found & ~truth, ~found & truth))
    return {
        "dice": 2 * tp / (2 * tp + fp + fn),
        "auc": float(roc_auc_score(truth, p)),
        "accuracy": (tp + tn) / (tp + tn + fp + fn),
        "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp),
    }


def report(probability: np.ndarray, vessels: np.ndarray, inside: np.ndarray) -> dict[str, Any]:
    """Return the scores of several images.

    Args:
        probability: `(N, H, W)`, like the others.
        vessels: see `scores`.
        inside: see `scores`.

    Returns:
        "images", the scores of each by itself; "mean", theirs; "pooled", those of all pixels as if
        they were of one image.
    """
    each = [scores(*one) for one in zip(probability, vessels, inside, strict=True)]
    mean = {name: float(np.mean([one[name] for one in each])) for name in SCORES}
    return {"images": each, "mean": mean, "pooled": scores(probability, vessels, inside)}


def overlay(
    image: np.ndarray, probability: np.ndarray, vessels: np.ndarray, inside: np.ndarray
) -> np.ndarray:
    """Return a photograph with what was found, falsely found and missed in three colours.

    Args:
        image: `(H, W, 3)` uint8.
        probability: `(H, W)`; above 1/2 is found.
        vessels: `(H, W)` bool.
        inside: `(H, W)` bool; the rest of the photograph stays as it is, but dark.

    Returns:
        `(H, W, 3)` uint8: the photograph in grey, and over it `COLOURS`.
    """
    found = probability > THRESHOLD
    grey = np.mean(image, axis=-1, keepdims=True) * np.where(inside, 0.8, 0.3)[..., None]
    picture = np.repeat(grey, 3, axis=-1)
    regions = {"found": found & vessels, "false": found & ~vessels, "missed": ~found & vessels}
    for name, region in regions.items():
        picture[region & inside] = [int(COLOURS[name][i : i + 2], 16) for i in (1, 3, 5)]
    return np.rint(picture).astype(np.uint8)
