"""Quantisation-aware training of time-series Transformers, from sensor data to bit-exact integers.

The rooms, in the order of the data; each imports only from those before it. The first five need NumPy alone and run
what was exported:

    system  integer_model  device  mcu, engine  board  |  data  float_model  quantised_model  runs  studies  live  make
"""

__version__ = "1.0.0"
