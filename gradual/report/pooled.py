"""One estimate from the differences of several data sets: a random-effects meta-analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Pooled:
    """The mean of the differences over all data sets like these.

    Attributes:
        difference: The mean.
        low: Lower end of its 95% interval.
        high: Upper end.
        tau: Standard deviation of the true differences between data sets.
        i_squared: Share of the variance of the differences that is between data sets.
        weights: Share of each data set in the mean.
    """

    difference: float
    low: float
    high: float
    tau: float
    i_squared: float
    weights: list[float]

    @property
    def data_sets(self) -> int:
        """Number of data sets."""
        return len(self.weights)


def pool(differences: Sequence[float], standard_errors: Sequence[float]) -> Pooled | None:
    """Pool the differences of several data sets; None for fewer than two.

    The variance between data sets is estimated by Paule and Mandel's method. The interval is that of Hartung, Knapp,
    Sidik and Jonkman, which takes the number of data sets into account, but it is not made narrower where data sets
    happen to differ by less than their errors.

    Args:
        differences: A difference for each data set.
        standard_errors: Their standard errors, each above 0: a difference without an error would decide the mean.
    """
    import numpy as np
    from statsmodels.stats.meta_analysis import combine_effects

    if len(differences) < 2:
        return None
    variances = np.square(standard_errors)
    with np.errstate(divide="ignore"):  # of equal differences
        found = combine_effects(np.asarray(differences, dtype=float), variances, method_re="iterated", use_t=True)
    _, plain, _, adjusted = found.conf_int()
    low, high = max(plain, adjusted, key=np.ptp)
    share = max(0.0, float(found.i2)) if found.q > 0 else 0.0
    tau, weights = float(found.tau2) ** 0.5, found.weights_rel_re.tolist()
    return Pooled(float(found.mean_effect_re), float(low), float(high), tau, share, weights)
