"""Where a study is kept: a journal in the store, or a database; one that is away is one error, whatever it is called.

STORE/sweeps/NAME/study.journal     the study, unless `storage` names a database
STORE/sweeps/NAME/study.journal.sum what the journal held when it was last written (`analysis/appended.py`)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from analysis.appended import Appended
from orchestrator.errors import BadRequest, OrchestratorError, first_line
from orchestrator.search.journal import mend_journal

AWAY = (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError, ConnectionError)
CONNECT_S = 10  # [s]


class Away(OrchestratorError):
    """The study's database does not answer; it may come back."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a study is kept.

    Attributes:
        folder: the sweep's own, in the store.
        name: of the study.
        url: of a database; None is a journal in the folder.
    """

    folder: Path
    name: str
    url: str | None = None

    def check(self) -> None:
        """That the database's address is one.

        Raises:
            BadRequest: it is not.
        """
        try:
            _ = self.shown
        except sqlalchemy.exc.ArgumentError:
            expected = "an address such as sqlite:///study.db or postgresql+psycopg://user@host/db"
            raise BadRequest(f"search.storage: got {self.url!r}; expected {expected}") from None

    @property
    def shown(self) -> str:
        """The address without its password."""
        if self.url is None:
            return str(self.journal)
        return sqlalchemy.engine.make_url(self.url).render_as_string(hide_password=True)

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.folder / "study.journal"

    def connected(self) -> BaseStorage:
        """The storage, open.

        Raises:
            BadRequest: the database's driver is not installed.
            Away: it cannot be reached.
        """
        url = self.url
        if url is None:
            mend_journal(self.journal)
            return JournalStorage(_Summed(self.journal))
        try:
            engine: dict[str, Any] = {"pool_pre_ping": True}
            if url.startswith("postgresql"):
                engine["connect_args"] = {"connect_timeout": CONNECT_S}
            return RDBStorage(url, engine_kwargs=engine)
        except (ImportError, sqlalchemy.exc.NoSuchModuleError) as error:
            way_out = "install its driver; PostgreSQL's is psycopg, as in postgresql+psycopg://…"
            raise BadRequest(f"{self.shown}: search.storage: {first_line(error)}; {way_out}") from None
        except AWAY as error:
            raise Away(f"{self.shown}: search.storage: cannot be reached: {first_line(error)}") from None


def let_go(storage: BaseStorage) -> None:
    """Close what this thread holds of a database."""
    if isinstance(storage, RDBStorage):
        with contextlib.suppress(*AWAY):
            storage.remove_session()
        with contextlib.suppress(*AWAY):
            storage.engine.dispose()


class _Summed(JournalFileBackend):
    """A journal whose sum is kept beside it.

    Args:
        path: of the journal.
    """

    def __init__(self, path: Path):
        self._sum = Appended(path)
        super().__init__(str(path))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append, and vouch for it."""
        super().append_logs(logs)
        self._sum.grown()


@contextlib.contextmanager
def plainly(address: Address) -> Iterator[None]:
    """A database that does not answer is one error, whatever it is called below."""
    try:
        yield
    except AWAY as error:
        raise Away(f"{address.shown}: the study's database does not answer: {first_line(error)}") from None
