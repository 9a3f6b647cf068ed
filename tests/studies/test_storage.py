"""A database that does not answer is said, and no password with it."""

import re
import traceback

import pytest

from qatlib.studies import storage

URLS = [
    "postgresql://me:secret@127.0.0.1:9/x",
    "nonsense://me:secret@x/y",
    "no url, but secret",
    "postgresql://me@127.0.0.1:9/x?password=secret",
    "postgresql://me@127.0.0.1:9/x?password=sec%72et",
    "postgresql://me@127.0.0.1:9/x?pass%77ord=secret",
    "postgresql://me@127.0.0.1:9/x?options=-c%20password%3Dsecret",
    "postgresql://me@127.0.0.1:9/x?options=-cpassword=secret&sslmode=disable",
    "postgresql://me@127.0.0.1:9/x?no_such_option=secret",
    "postgresql://me@127.0.0.1:9/x?sslmode=disable&connect_timeout=secret",
    "postgresql://me:secret",
    "postgresql://me:se@secret@127.0.0.1:9/x",
    "postgresql://me:{secret}@127.0.0.1:9/x",
    "postgresql://me:%73ecret@127.0.0.1:9/{x",
    "postgresql://127.0.0.1:9/password=secret",
    "postgresql://me@127.0.0.1:9/x;password=secret",
    "sqlite:////nowhere/secret.db",
]


@pytest.mark.parametrize("url", URLS)
def test_a_database_that_is_not_there(monkeypatch, url):
    """Whatever part of the URL a password stands in, nothing shows it: neither the error nor its traceback."""
    monkeypatch.setenv(storage.VARIABLE, url)
    with pytest.raises(ConnectionError, match=r"STORAGE=.*no database to be had there") as caught:
        storage.opened()
    shown = "".join(traceback.format_exception(caught.value))
    assert not re.search("secret|%73ecret|sec%72et", shown)
    assert "127.0.0.1" in str(caught.value) or "127.0.0.1" not in url or url.count("@") == 2


def test_what_the_driver_says_is_passed_on(monkeypatch):
    monkeypatch.setenv(storage.VARIABLE, "postgresql://me:secret@127.0.0.1:9/x?sslmode=disable")
    with pytest.raises(ConnectionError, match=r"STORAGE=postgresql://127\.0\.0\.1:9: no database .*Connection refused"):
        storage.opened()
