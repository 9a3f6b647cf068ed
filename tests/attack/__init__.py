"""`make attack`: what could make qatlib lie is tried at length, and every answer is judged: refused, right, or wrong.

Each module here is a part; its `attack(short)` yields Outcomes. `python -m tests.attack --help` lists them.
"""
