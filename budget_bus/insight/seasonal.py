"""Hourly amounts -> what each of the next hours will bring: exponential smoothing with a day's or a week's seasons."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hours = NDArray[np.float64]

# ruff: noqa: PLC0415 - numpy and statsmodels are heavy, and only whoever makes a forecast needs them.

DAY, WEEK = 24, 168
# Whole seasons that are needed before the first origin: the initial seasons are means over two of them.
_LEAST_SEASONS = {DAY: 3, WEEK: 3}


@dataclass(frozen=True, slots=True)
class Smoothed:
    """
    A series with what an ETS(A,N,A) model knew after each of its hours, from that hour and those before it alone.

    So a forecast from any hour of the past is the one that would have been made then.
    """

    level: Hours
    season: Hours
    period: int

    def ahead(self, origin: int, hours: int) -> Hours:
        """The sums of the first 1 to *hours* hours after *origin* hours of the series; never less than before."""
        import numpy as np

        # The seasons of the hours to come are those that were seen last, a period before them.
        seasons = np.resize(self.season[origin - self.period : origin], hours)
        return np.cumsum(np.maximum(self.level[origin - 1] + seasons, 0.0))


def least_hours(period: int) -> int:
    """How many hours a model of *period* must have seen."""
    return _LEAST_SEASONS[period] * period


def smooth(hours: Hours, period: int, *, fit_on: int) -> Smoothed:
    """
    *hours* smoothed with the weights that fit the first *fit_on* of them best (maximum likelihood).

    The model is ETSModel of statsmodels with additive errors and seasons, no trend: Hyndman, Koehler, Ord and Snyder,
    "Forecasting with Exponential Smoothing", 2008. A trend would be extended over weeks; the level follows one.
    """
    import numpy as np
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    scale = float(hours[:fit_on].mean())
    if not scale or not np.ptp(hours[:fit_on]):
        return _constant(hours, period)
    scaled = hours / scale  # of order 1: the optimiser's steps are absolute
    known: dict[str, Any] = {"error": "add", "seasonal": "add", "seasonal_periods": period}
    with warnings.catch_warnings():
        # That the likelihood has no clear maximum says only that other weights would do as well.
        warnings.simplefilter("ignore")
        fitted = ETSModel(scaled[:fit_on], initialization_method="heuristic", **known).fit(disp=False, maxiter=50)
        whole = ETSModel(
            scaled,
            initialization_method="known",
            initial_level=fitted.initial_level,
            initial_seasonal=fitted.initial_seasonal,
            **known,
        ).smooth(fitted.params)
    return Smoothed(np.asarray(whole.level) * scale, np.asarray(whole.season) * scale, period)


def _constant(hours: Hours, period: int) -> Smoothed:
    """Nothing varies that weights could be fitted to: the level is the mean of the period before."""
    import numpy as np

    sums = np.concatenate([[0.0], np.cumsum(hours)])
    ends = np.arange(1, len(hours) + 1)
    starts = np.maximum(ends - period, 0)
    return Smoothed((sums[ends] - sums[starts]) / (ends - starts), np.zeros(len(hours)), period)
