"""Pseudo-labels: which cluster each row belongs to, at several granularities at once (ClusterFit, as AdvCL uses it)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from fedsim.errors import ConfigError
from fedsim.seeding import Rng


def pseudo_labels(points: Tensor, sizes: Sequence[int], rng: Rng) -> Tensor:
    """The clusters of points (n, d) by k-means of scikit-learn, (len(sizes), n) int64, a line for each number of clusters.

    One thread: sums over threads would come out in another order each time.

    Raises:
        ConfigError: more clusters are asked for than there are points.
    """
    from sklearn.cluster import KMeans

    if max(sizes) > len(points):
        raise ConfigError(f"{max(sizes)} clusters are asked of {len(points)} rows")
    x, found = points.double().numpy(), []
    with threadpool_limits(limits=1):
        for size in sizes:
            seed = int(rng.child(size).numpy().integers(2**31))
            fitted = KMeans(size, n_init=4, random_state=seed).fit(x)
            found.append(torch.from_numpy(fitted.labels_.astype("int64")))
    return torch.stack(found)


def components(rows: Tensor, count: int) -> Tensor:
    """The leading principal components of rows (n, ...), (n, ``count``) float32 or as many as there are."""
    from sklearn.decomposition import PCA

    x = rows.flatten(1).double().numpy()
    with threadpool_limits(limits=1):
        return torch.from_numpy(PCA(min(count, *x.shape), svd_solver="full").fit_transform(x)).float()
