"""Quantisation-aware training of time-series Transformers, from sensor data to bit-exact integers.

The package has two halves. The upper half (`data`, `models`, `train`, `ptq`, `qat`, `runs`, `plots`) trains and reports, and needs
torch and pandas. The lower half (`integer_model`, `kernels`) runs an exported model and needs numpy alone.
"""

__version__ = "0.1.0"
