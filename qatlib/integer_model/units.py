"""From sensor units to counts and back, around anything that forecasts in counts."""

import numpy as np

from qatlib.integer_model import kernels


def in_units(values, model, forward):
    """In sensor units: windows of a model, or one of them -> float64 forecasts, of as many dimensions; of a classifier
    (labels, scores), each label the first of the highest scores'.

    forward: int16 windows -> int16 forecasts. ValueError for NaN and out of range.
    """
    found = _in_counts(values, model, forward)
    if model.task == "classify":
        return np.array(model.labels)[found.argmax(axis=-1)], found
    return found * (model.resolution if len(model.window_shape) == 1 else model.resolution[list(model.targets)])


def _in_counts(values, model, forward):
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(
            f"values hold {np.count_nonzero(~np.isfinite(values))} NaN or infinite samples; repair them first"
        )
    shape = model.window_shape
    if values.shape[-len(shape) :] != shape or values.ndim > len(shape) + 1:
        raise ValueError(f"values have shape {values.shape}; this model takes windows of shape {shape}")
    resolution = np.broadcast_to(model.resolution, shape[1:] or (1,))  # (channel,)
    scaled = values / (model.resolution if len(shape) == 1 else resolution)
    off = (scaled < kernels.COUNT_MIN - 0.5) | (scaled >= kernels.COUNT_MAX + 0.5)
    if off.any():
        at = np.unravel_index(np.argmax(np.where(off, np.abs(scaled), 0)), scaled.shape)
        step = resolution[at[-1] if len(shape) > 1 else 0]
        raise ValueError(
            f"value {values[at]:g} is outside the sensor's range of +-{step * kernels.COUNT_MAX:g} at a resolution of "
            f"{step:g}"
        )
    counts = kernels.round_half_up(scaled).astype(np.int16).reshape(-1, *shape)
    return forward(counts).reshape(*values.shape[: values.ndim - len(shape)], *model.forecast_shape)
