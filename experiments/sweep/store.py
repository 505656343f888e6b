"""The results file: one SQLite database in WAL mode, which several sweeps write to at the same time.

A cell is ``waiting``, ``running`` (claimed by a sweep whose heartbeat is recent), ``done`` or ``failed``. A result and
its answers are written in one transaction, so a sweep that is killed loses the cells in flight and nothing else.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from stgraph.errors import StgraphError

from .cells import Cell, Plan, digest
from .evaluator import Result

VERSION = 1
APPLICATION = 0x57511  # marks the file as ours

STALE_SECONDS = 60.0
"""A claim whose sweep has shown no sign of life for so long is free again."""

ATTEMPTS = 3
"""A cell that was running at the death of so many workers counts as failed."""

BUSY_SECONDS = 60.0

_SCHEMA = """
CREATE TABLE configuration (name TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE cell (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  configuration TEXT NOT NULL REFERENCES configuration(name),
  clip TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'failed')),
  claimed_by TEXT,
  attempts INTEGER NOT NULL DEFAULT 0,
  error TEXT,
  seconds REAL,
  figures TEXT
);
CREATE TABLE answer (
  cell INTEGER NOT NULL REFERENCES cell(id),
  question INTEGER NOT NULL,
  kind TEXT NOT NULL,
  correct INTEGER NOT NULL,
  probability REAL NOT NULL,
  PRIMARY KEY (cell, question)
) WITHOUT ROWID;
CREATE TABLE sweep (name TEXT PRIMARY KEY, heartbeat REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE planned (plan TEXT NOT NULL, cell INTEGER NOT NULL REFERENCES cell(id), PRIMARY KEY (plan, cell))
  WITHOUT ROWID;
CREATE INDEX cell_state ON cell(state) WHERE state IN ('waiting', 'running');
"""


class Claim(NamedTuple):
    """A cell that is ours to run.

    Attributes:
        id: of its row.
        clip: name of the clip.
        settings: of the configuration.
    """

    id: int
    clip: str
    settings: dict[str, Any]


class Counts(NamedTuple):
    """How many cells of a plan are in each state."""

    waiting: int
    running: int
    done: int
    failed: int


class Store:
    """A results file, opened or made.

    Args:
        path: of the file.
        create: make it where there is none.

    Raises:
        StgraphError: the file is of something else or of another version, there is none, or it cannot be written.
    """

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        self.path = Path(path)
        self.name = uuid.uuid4().hex
        new = not self.path.exists()
        if new and not create:
            raise StgraphError(f"there is no results file {path}; run the sweep first, or name another with results=")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # The transactions are ours: sqlite3 begins none by itself.
            self._connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StgraphError(f"results file {path} cannot be opened: {error}") from error
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        with self._told():
            if self._one("PRAGMA application_id") == 0 and self._one("SELECT count(*) FROM sqlite_master") == 0:
                self._connection.execute("PRAGMA journal_mode = WAL")
                with self._transaction():
                    if not self._one("SELECT count(*) FROM sqlite_master"):  # another sweep may have been faster
                        for statement in _SCHEMA.split(";\n"):
                            self._connection.execute(statement)
                        self._connection.execute(f"PRAGMA application_id = {APPLICATION}")
                        self._connection.execute(f"PRAGMA user_version = {VERSION}")
            if self._one("PRAGMA application_id") != APPLICATION:
                raise StgraphError(f"{self.path} is a database of something else; name another file with results=")
            version = self._one("PRAGMA user_version")
            if version != VERSION:
                raise StgraphError(
                    f"results file {self.path} has version {version}, and this stgraph reads version {VERSION}; "
                    "nothing was changed: name another file with results=, or use the stgraph that made it"
                )
            self._connection.execute("PRAGMA synchronous = NORMAL")

    def close(self) -> None:
        """Give claims back and close the file."""
        try:
            self.release()
        finally:
            self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- planning -----------------------------------------------------------------------------------------------------

    def add(self, plan: Plan) -> str:
        """Put the cells of a plan into the file, where they are not there yet, and return the plan's name."""
        cells = list(plan.cells)
        name = digest([cell.name for cell in cells])
        with self._told(), self._transaction():
            self._connection.executemany(
                "INSERT OR IGNORE INTO configuration VALUES (?, ?)",
                [(key, json.dumps(value, sort_keys=True)) for key, value in plan.configurations.items()],
            )
            self._connection.executemany(
                "INSERT OR IGNORE INTO cell (name, configuration, clip) VALUES (?, ?, ?)",
                [(cell.name, cell.configuration, cell.clip) for cell in cells],
            )
            self._connection.executemany(
                "INSERT OR IGNORE INTO planned SELECT ?, id FROM cell WHERE name = ?",
                [(name, cell.name) for cell in cells],
            )
        return name

    def retry(self, plan: str) -> int:
        """Let the failed cells of a plan wait again, and return how many there are."""
        with self._told(), self._transaction():
            return self._connection.execute(
                "UPDATE cell SET state = 'waiting', attempts = 0, error = NULL WHERE state = 'failed' AND id IN "
                "(SELECT cell FROM planned WHERE plan = ?)",
                (plan,),
            ).rowcount

    def counts(self, plan: str) -> Counts:
        """How many cells of a plan are in each state."""
        with self._told():
            rows = self._connection.execute(
                "SELECT state, count(*) FROM cell JOIN planned ON cell.id = planned.cell WHERE plan = ? GROUP BY state",
                (plan,),
            ).fetchall()
        found = dict(rows)
        return Counts(*(found.get(state, 0) for state in Counts._fields))

    def failures(self, plan: str) -> list[tuple[str, str, str]]:
        """(configuration, clip, error) of the failed cells of a plan."""
        with self._told():
            return self._connection.execute(
                "SELECT configuration, clip, error FROM cell JOIN planned ON cell.id = planned.cell "
                "WHERE plan = ? AND state = 'failed' ORDER BY cell.id",
                (plan,),
            ).fetchall()

    # -- working ------------------------------------------------------------------------------------------------------

    def claim(self, plan: str, clip: str | None = None) -> Claim | None:
        """Take a waiting cell of a plan: of this clip if there is one, else of a clip that nobody works on, else any.

        Returns:
            None where no cell waits.
        """
        waiting = (
            "SELECT cell.id, clip, content FROM cell JOIN planned ON cell.id = planned.cell "
            "JOIN configuration ON configuration.name = configuration WHERE plan = ? AND state = 'waiting' "
        )
        busy = "AND clip NOT IN (SELECT clip FROM cell WHERE state = 'running') "
        asked: list[tuple[str, tuple[str, ...]]] = [
            (f"{waiting} AND clip = ? ORDER BY cell.id LIMIT 1", (plan, clip or "")),
            (f"{waiting} {busy} ORDER BY cell.id LIMIT 1", (plan,)),
            (f"{waiting} ORDER BY cell.id LIMIT 1", (plan,)),
        ]
        with self._told(), self._transaction():
            for query, values in asked if clip else asked[1:]:
                row = self._connection.execute(query, values).fetchone()
                if row is not None:
                    self._connection.execute(
                        "UPDATE cell SET state = 'running', claimed_by = ?, attempts = attempts + 1 WHERE id = ?",
                        (self.name, row[0]),
                    )
                    return Claim(row[0], row[1], json.loads(row[2]))
        return None

    def finish(self, claim: Claim, result: Result) -> None:
        """Write the result of a cell with its answers: all of it, or nothing."""
        answers = zip(result.kinds, result.correct, result.probability, strict=True)
        with self._told(), self._transaction():
            # A sweep that was taken for dead may finish what another has finished: the result is the same.
            self._connection.execute(
                "UPDATE cell SET state = 'done', claimed_by = NULL, error = NULL, seconds = ?, figures = ? "
                "WHERE id = ?",
                (result.seconds, json.dumps(result.figures), claim.id),
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?, ?)",
                [(claim.id, number, *answer) for number, answer in enumerate(answers)],
            )

    def fail(self, claim: Claim, error: str) -> None:
        """Record why a cell cannot be measured."""
        with self._told(), self._transaction():
            self._connection.execute(
                "UPDATE cell SET state = 'failed', claimed_by = NULL, error = ? WHERE id = ?", (error, claim.id)
            )

    def died(self, claim: Claim, reason: str) -> None:
        """The worker of a cell died: the cell waits again, or has failed for good after :data:`ATTEMPTS` deaths."""
        with self._told(), self._transaction():
            self._give_up("id = ?", (claim.id,), reason)

    def beat(self) -> None:
        """Show that this sweep lives, and free the cells of those that do not."""
        now = time.time()
        with self._told(), self._transaction():
            self._connection.execute(
                "INSERT INTO sweep VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET heartbeat = excluded.heartbeat",
                (self.name, now),
            )
            self._connection.execute("DELETE FROM sweep WHERE heartbeat < ?", (now - STALE_SECONDS,))
            self._give_up(
                "state = 'running' AND claimed_by NOT IN (SELECT name FROM sweep)",
                (),
                "the sweep that ran it was killed",
            )

    def release(self) -> None:
        """Let the cells that this sweep has claimed wait again."""
        with self._told(), self._transaction():
            self._connection.execute(
                "UPDATE cell SET state = 'waiting', claimed_by = NULL, attempts = attempts - 1 "
                "WHERE state = 'running' AND claimed_by = ?",
                (self.name,),
            )
            self._connection.execute("DELETE FROM sweep WHERE name = ?", (self.name,))

    def _give_up(self, which: str, values: tuple[Any, ...], reason: str) -> None:
        self._connection.execute(
            f"UPDATE cell SET claimed_by = NULL, "
            f"state = CASE WHEN attempts >= {ATTEMPTS} THEN 'failed' ELSE 'waiting' END, "
            f"error = CASE WHEN attempts >= {ATTEMPTS} THEN ? END WHERE {which}",
            (f"{ATTEMPTS} workers died while they ran it, the last because {reason}", *values),
        )

    # -- reading ------------------------------------------------------------------------------------------------------

    def configurations(self) -> dict[str, dict[str, Any]]:
        """The content of every configuration, by name."""
        with self._told():
            rows = self._connection.execute("SELECT name, content FROM configuration").fetchall()
        return {name: json.loads(text) for name, text in rows}

    def results(self) -> Iterator[tuple[Cell, Mapping[str, float], list[tuple[str, bool, float]]]]:
        """(cell, figures, answers) of every finished cell; an answer is (kind, right, probability)."""
        with self._told():
            rows = self._connection.execute(
                "SELECT configuration, clip, figures, seconds, kind, correct, probability, cell.id "
                "FROM cell LEFT JOIN answer ON answer.cell = cell.id WHERE state = 'done' ORDER BY cell.id, question"
            )
            current: tuple[int, Cell, dict[str, float], list[tuple[str, bool, float]]] | None = None
            for configuration, clip, figures, seconds, kind, correct, probability, number in rows:
                if current is None or current[0] != number:
                    if current is not None:
                        yield current[1:]
                    known = json.loads(figures) | {"cell seconds": seconds}
                    current = number, Cell(configuration, clip), known, []
                if kind is not None:
                    current[3].append((kind, bool(correct), probability))
            if current is not None:
                yield current[1:]

    # -- SQLite -------------------------------------------------------------------------------------------------------

    def _one(self, query: str) -> Any:
        return self._connection.execute(query).fetchone()[0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All that the block writes, or nothing of it."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of SQLite as one sentence."""
        try:
            yield
        except sqlite3.Error as error:
            text = str(error)
            if "full" in text:
                advice = "the disk is full: free some space and run the same command again; finished cells are kept"
            elif "locked" in text or "busy" in text:
                advice = "another process has locked it for a minute; end it, or name another file with results="
            elif "not a database" in text:
                advice = "it is no results file; name another with results="
            elif "readonly" in text or "unable to open" in text:
                advice = "it cannot be written; name another with results="
            else:
                advice = text
            raise StgraphError(f"results file {self.path}: {advice}") from error
