"""Errors beside those published."""

from qatlib.studies import float_baseline


def test_published_errors_only_where_they_belong(small, accuracy):
    assert not small.has_published_errors
    assert "Informer" not in set(float_baseline.errors(accuracy, published=False)["label"])
    shown = float_baseline.errors(accuracy, published=True)
    assert shown.loc[shown["kind"] == "published", "source"].str.contains("arXiv").all()
