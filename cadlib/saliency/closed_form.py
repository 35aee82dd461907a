"""Computes saliency maps from the last feature map and the head, without gradients.

A model's network averages its last feature map A, (C, h, w), into one linear layer with weights w, (8, C). So the
gradient of a logit with respect to A is w / (h w) at every place, and each method below is a formula in A and w.
`saliency.gradients` computes the same by pytorch-grad-cam, for any network.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]

_EPSILON = 1e-6  # as in pytorch-grad-cam


def grad_cam_plus_plus(feature_map: Map, weights: Map) -> Map:
    """Return the map of Grad-CAM++, (h, w), for a feature map, (C, h, w), and the weights of one diagnosis, (C,).

    Chattopadhay et al., WACV 2018, eq. 19: with a gradient g that is the same at every place, the weight of a channel
    is the sum of max(g, 0) g² / (2 g² + g³ ΣA) over the places.
    """
    places = feature_map[0].size
    gradient = weights / places
    sums = feature_map.sum(axis=(1, 2))
    scale = gradient**2 / (2 * gradient**2 + sums * gradient**3 + _EPSILON)
    channel_weights = places * np.maximum(gradient, 0) * scale
    return _weighted(feature_map, channel_weights)


def hires_cam(feature_map: Map, weights: Map) -> Map:
    """Return the map of HiResCAM (Draelos and Carin, arXiv 2011.08891), the sum of gradient times feature map.

    For these networks it equals Grad-CAM. Shapes are those of `grad_cam_plus_plus`.
    """
    return _weighted(feature_map, weights / feature_map[0].size)


def layer_cam(feature_map: Map, weights: Map) -> Map:
    """Return the map of LayerCAM (Jiang et al., IEEE TIP 2021), with the positive gradients alone.

    Shapes are those of `grad_cam_plus_plus`.
    """
    return _weighted(feature_map, np.maximum(weights, 0) / feature_map[0].size)


def eigen_cam(feature_map: Map, weights: Map) -> Map:  # noqa: ARG001 - it is the same for each diagnosis
    """Return the map of EigenCAM (Muhammad and Yeasin, IJCNN 2020), the first principal component of the places.

    The sign of a component is arbitrary. The map is turned so that the value farthest from 0 is positive
    (Chung and Ying, Appl. Sci. 15 (2025) 7562, eq. 13).
    """
    channels, height, width = feature_map.shape
    if not np.isfinite(feature_map).all():  # else the decomposition would not end
        return np.full((height, width), np.nan, np.float32)
    places = feature_map.reshape(channels, height * width).T
    centred = places - places.mean(axis=0)
    _, _, components = np.linalg.svd(centred, full_matrices=False)
    projection: Map = (centred @ components[0]).reshape(height, width)
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
"""By the key of `heatmap.METHODS`."""


def _weighted(feature_map: Map, channel_weights: Map) -> Map:
    weighted: Map = np.tensordot(channel_weights, feature_map, axes=1).astype(np.float32)
    return weighted
