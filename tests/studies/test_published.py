"""Published numbers have sources."""

from qatlib.studies import published


def test_every_number_has_a_source():
    for table in (published.ERRORS, published.LATENCIES):
        assert table["source"].str.contains(r"arXiv \d{4}\.\d{5}|doi 10\.|github\.com").all()
        assert table["label"].is_unique


def test_cycles_and_rates_became_microseconds():
    latencies = published.LATENCIES.set_index("label")["microseconds"]
    assert latencies["Transformer, 24 inputs, d = 16, 8 bit"] == 1311.39
    assert round(latencies["LSTM"], 1) == 57.0
    assert latencies["Transformer, 8 bit"] == 176_000  # 176 ms
