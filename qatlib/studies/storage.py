"""Where studies of `search` are kept, and what may be said of a database's URL: never a password."""

import os
import re
from urllib.parse import parse_qsl, quote, unquote_plus

from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from qatlib.system import paths
from qatlib.system.console import plain

VARIABLE = "STORAGE"  # environment: the URL of a database for studies
HARMLESS = {"host", "hostaddr", "port", "sslmode", "connect_timeout"}  # of a URL's query: may be shown


def _parts(url):
    """Its parts; None where it is no URL, or one in whose host a part of a password with an unescaped @ may stand."""
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        return None
    return parts if re.fullmatch(r"[\w.:-]*", parts.host or "") else None


def _shown(parts):
    """A URL without what may be secret: scheme, host and port."""
    if parts is None:
        return "(no URL as in postgresql://user:password@host/name, what is special in them escaped as in %40)"
    return URL.create(parts.drivername, host=parts.host, port=parts.port).render_as_string()


def _reason(error, url, parts):
    """What the driver says, unless it repeats a word of what may be secret: of the password, or of the URL's query."""
    reason = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
    query = parse_qsl(url.partition("?")[2], keep_blank_values=True)
    secret = [parts.password or "", *(value for name, value in query if name not in HARMLESS)] if parts else [url]
    words = {
        word for text in secret for form in (text, unquote_plus(text), quote(text)) for word in re.split(r"\W+", form)
    }
    if words & {*re.split(r"\W+", reason)} - {""}:
        return f"{type(error).__name__}; more is not said here, since it repeats a part of the URL"
    return plain(reason)


def opened():
    """Where studies are kept: the database of STORAGE, or a journal file. ConnectionError where no database answers;
    neither its text nor its traceback holds a password."""
    if url := os.environ.get(VARIABLE):
        try:
            limit = {"connect_args": {"connect_timeout": 10}} if url.startswith("postgresql") else None
            return RDBStorage(url, engine_kwargs=limit)
        except Exception as error:  # of SQLAlchemy, a driver, or the interpreter: any may repeat the URL
            parts = _parts(url)
            said = f"{VARIABLE}={_shown(parts)}: no database to be had there ({_reason(error, url, parts)})"
        raise ConnectionError(said)
    folder = paths.BUILD / "studies"
    folder.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(folder / "studies.log")))
