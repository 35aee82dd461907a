"""Computes saliency maps without gradients.

A model's network averages its last feature map A, (C, h, w), into one linear layer with weights w,
(8, C). So the gradient of a logit with respect to A is w / (h w) at every place, and each method
below is a formula in A and w. `saliency.gradients` computes the same by pytorch-grad-cam, for any
network.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]

# As in pytorch-grad-cam.
_EPSILON = 1e-6


def grad_cam_plus_plus(feature_map: Map, weights: Map) -> Map:
    """Return the map of Grad-CAM++, (h, w), for a feature map and the weights of one diagnosis.

    The feature map is (C, h, w), the weights are (C,). Chattopadhay et al., WACV 2018, eq. 19: with
    a gradient g that is the same at every place, the weight of a channel is the sum of
    max(g, 0) g² / (2 g² + g³ ΣA) over the places.
    """
    places = feature_map[0].size
    gradient = weights / places
    sums = feature_map.sum(axis=(1, 2))
    square = gradient**2
    cube = gradient**3
    divisor = 2 * square + sums * cube + _EPSILON
    scale = square / divisor
    positive_gradient = np.maximum(gradient, 0)
    channel_weights = places * positive_gradient * scale
    return _weighted(feature_map, channel_weights)


def hires_cam(feature_map: Map, weights: Map) -> Map:
    """Return the map of HiResCAM (Draelos and Carin, arXiv 2011.08891).

    It is the sum of gradient times feature map over the channels. For these networks it equals
    Grad-CAM. Shapes are those of `grad_cam_plus_plus`.
    """
    places = feature_map[0].size
    gradient = weights / places
    return _weighted(feature_map, gradient)


def layer_cam(feature_map: Map, weights: Map) -> Map:
    """Return the map of LayerCAM (Jiang et al., IEEE TIP 2021), from positive gradients only.

    Shapes are those of `grad_cam_plus_plus`.
    """
    places = feature_map[0].size
    positive_weights = np.maximum(weights, 0)
    positive_gradient = positive_weights / places
    return _weighted(feature_map, positive_gradient)


def eigen_cam(feature_map: Map, weights: Map) -> Map:  # noqa: ARG001 - the same for each diagnosis
    """Return the map of EigenCAM (Muhammad and Yeasin, IJCNN 2020).

    It is the first principal component of the places. The sign of a component is arbitrary, so the
    map gets the sign that makes the value farthest from 0 positive (Chung and Ying, Appl. Sci. 15
    (2025) 7562, eq. 13).
    """
    channels, height, width = feature_map.shape
    # The decomposition would not end with NaN or infinity.
    if not np.isfinite(feature_map).all():
        return np.full((height, width), np.nan, np.float32)
    n_places = height * width
    places = feature_map.reshape(channels, n_places).T
    mean = places.mean(axis=0)
    centred = places - mean
    _, _, components = np.linalg.svd(centred, full_matrices=False)
    principal = components[0]
    scores = centred @ principal
    projection: Map = scores.reshape(height, width)
    if -projection.min() > projection.max():
        return -projection
    return projection


FORMULAS: dict[str, Callable[[Map, Map], Map]] = {
    "grad-cam": hires_cam,
    "grad-cam++": grad_cam_plus_plus,
    "hirescam": hires_cam,
    "layercam": layer_cam,
    "eigencam": eigen_cam,
}
"""Formula of each method, by the key of `heatmap.METHODS`."""


def _weighted(feature_map: Map, channel_weights: Map) -> Map:
    """Return the weighted sum of the channels, (h, w)."""
    sums = np.tensordot(channel_weights, feature_map, axes=1)
    weighted: Map = sums.astype(np.float32)
    return weighted
