"""From sensor units to counts and back, around anything that forecasts in counts."""

import numpy as np

from qatlib.integer_model import kernels


def in_units(values, resolution, horizon, forward):
    """Forecast in sensor units: (windows, context) or (context,) -> float64 of the same dimensions.

    forward: int16 (windows, context) -> int16 (windows, horizon); resolution: sensor units per count. ValueError for
    NaN and out of range.
    """
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(
            f"values hold {np.count_nonzero(~np.isfinite(values))} NaN or infinite samples; repair them first"
        )
    scaled = values / resolution
    if scaled.size and (scaled.min() < kernels.COUNT_MIN - 0.5 or scaled.max() >= kernels.COUNT_MAX + 0.5):
        worst = values.ravel()[np.argmax(np.abs(scaled))]
        bound = resolution * kernels.COUNT_MAX
        raise ValueError(
            f"value {worst:g} is outside the sensor's range of +-{bound:g} at a resolution of {resolution:g}"
        )
    forecast = forward(np.atleast_2d(kernels.round_half_up(scaled).astype(np.int16))) * resolution
    return forecast.reshape(*values.shape[:-1], horizon)
