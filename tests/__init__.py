"""The tests, and the long attacks of `tests.attack`. A package, so that no other one of this name takes its place."""
