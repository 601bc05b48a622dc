"""The tables of a journal: made in a new one, and added to those of earlier versions."""

from __future__ import annotations

import sqlite3

SCHEMA_VERSION = 8
APPLICATION_ID = 0x6D6E6173
"""`mnas` in ASCII: marks our files."""

DRIVER = """CREATE TABLE driver (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    session INTEGER NOT NULL,
    host TEXT NOT NULL,
    process INTEGER NOT NULL,
    started TEXT NOT NULL,
    inode INTEGER NOT NULL
);"""

STEP = """CREATE TABLE step (
    number INTEGER PRIMARY KEY,
    trial INTEGER NOT NULL REFERENCES trial (number),
    kind TEXT NOT NULL CHECK (kind IN ('proposed', 'counted')),
    asked INTEGER NOT NULL,
    rejected INTEGER NOT NULL
);"""

SIZE = "ALTER TABLE step ADD COLUMN size INTEGER NOT NULL DEFAULT 1;"

COPY = """CREATE TABLE identity_copy (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    identity_json TEXT NOT NULL,
    seal TEXT NOT NULL
);"""

SCHEMA = f"""
CREATE TABLE study (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    space_name TEXT NOT NULL,
    space TEXT NOT NULL,
    data TEXT NOT NULL,
    split TEXT NOT NULL,
    recipe TEXT NOT NULL,
    evaluator TEXT NOT NULL,
    objective TEXT NOT NULL,
    controller TEXT NOT NULL,
    seed INTEGER NOT NULL,
    deterministic_workers INTEGER,
    data_text TEXT NOT NULL,
    recipe_json TEXT NOT NULL,
    preprocessing_json TEXT NOT NULL,
    settings_json TEXT NOT NULL,
    package_version TEXT NOT NULL,
    created_at TEXT NOT NULL,
    ended_at TEXT,
    ending TEXT,
    data_json TEXT NOT NULL DEFAULT ''
);
CREATE TABLE candidate (
    digest TEXT PRIMARY KEY,
    macs INTEGER NOT NULL,
    params INTEGER NOT NULL,
    activations INTEGER NOT NULL,
    network_json TEXT NOT NULL
);
CREATE TABLE trial (
    number INTEGER PRIMARY KEY,
    digest TEXT NOT NULL REFERENCES candidate (digest),
    tokens_json TEXT NOT NULL,
    origin TEXT NOT NULL CHECK (origin IN ('controller', 'user')),
    proposal_number INTEGER,
    log_prob REAL,
    repeat INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    fidelity REAL NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('proposed', 'running', 'completed', 'infeasible', 'lost')),
    cause TEXT,
    message TEXT NOT NULL DEFAULT '',
    reward REAL,
    copied_from INTEGER REFERENCES trial (number),
    continues INTEGER REFERENCES trial (number),
    weights_file TEXT,
    feedback_rank INTEGER UNIQUE,
    feedback_reward REAL,
    proposed_at TEXT NOT NULL,
    finished_at TEXT,
    proposed_seal TEXT,
    finished_seal TEXT
);
CREATE TABLE attempt (
    trial INTEGER NOT NULL REFERENCES trial (number),
    number INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('running', 'completed', 'infeasible', 'lost')),
    cause TEXT,
    message TEXT NOT NULL DEFAULT '',
    node TEXT NOT NULL DEFAULT '',
    seed INTEGER NOT NULL,
    fidelity REAL NOT NULL,
    started_at TEXT NOT NULL,
    finished_at TEXT,
    worker_seconds REAL,
    PRIMARY KEY (trial, number)
) WITHOUT ROWID;
CREATE TABLE measurement (
    trial INTEGER NOT NULL REFERENCES trial (number),
    metric TEXT NOT NULL,
    value REAL NOT NULL,
    unit TEXT NOT NULL,
    environment TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    PRIMARY KEY (trial, metric, environment)
) WITHOUT ROWID;
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    happened_at TEXT NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL
);
CREATE TABLE controller (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    proposals INTEGER NOT NULL,
    feedbacks INTEGER NOT NULL,
    rejected INTEGER NOT NULL,
    state_json TEXT NOT NULL,
    steps INTEGER NOT NULL DEFAULT 0,
    asked INTEGER NOT NULL DEFAULT 0
);
{STEP}
{SIZE}
CREATE TABLE recommendation (
    rank INTEGER PRIMARY KEY,
    digest TEXT NOT NULL
);
{DRIVER}
CREATE INDEX trial_of_candidate ON trial (digest);
{COPY}
CREATE VIEW trials AS
SELECT trial.number, trial.status, trial.reward,
    (SELECT value FROM measurement WHERE trial = trial.number AND metric = 'accuracy') AS accuracy,
    candidate.macs, candidate.params, candidate.activations,
    (SELECT value FROM measurement WHERE trial = trial.number AND metric = 'latency_ms') AS latency_ms,
    (SELECT count(*) FROM attempt WHERE attempt.trial = trial.number) AS attempts,
    (SELECT sum(worker_seconds) FROM attempt WHERE attempt.trial = trial.number) AS worker_seconds,
    trial.cause, trial.message, trial.origin, trial.digest, trial.weights_file,
    trial.proposed_at, trial.finished_at
FROM trial JOIN candidate USING (digest) ORDER BY trial.number;
CREATE VIEW failures AS
SELECT trial, number AS attempt, status, cause, message, node, worker_seconds, finished_at
FROM attempt WHERE status IN ('infeasible', 'lost') ORDER BY trial, number;
"""


VIEWS = ("trials", "failures")
"""For people who look into a journal; nothing here reads them."""

UPGRADES = {
    2: "CREATE TABLE recommendation (rank INTEGER PRIMARY KEY, digest TEXT NOT NULL);",
    3: "ALTER TABLE trial ADD COLUMN continues INTEGER REFERENCES trial (number);",
    4: f"""ALTER TABLE study ADD COLUMN data_json TEXT NOT NULL DEFAULT '';
{DRIVER}""",
    5: f"""ALTER TABLE controller ADD COLUMN steps INTEGER NOT NULL DEFAULT 0;
ALTER TABLE controller ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;
UPDATE controller SET steps = proposals + feedbacks;
{STEP}""",
    6: """ALTER TABLE trial ADD COLUMN proposed_seal TEXT;
ALTER TABLE trial ADD COLUMN finished_seal TEXT;""",
    7: SIZE,
    8: COPY,
}
"""What each version added to the one before it."""


def has_tables(database: sqlite3.Connection) -> bool:
    """Whether an open file has any table."""
    return bool(database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def foreign_parts(database: sqlite3.Connection) -> list[str]:
    """Names of what a journal may not have: triggers, foreign views, virtual tables, computed columns."""
    parts = database.execute("SELECT name, type, coalesce(sql, '') FROM sqlite_master").fetchall()
    found = [
        name
        for name, kind, sql in parts
        if kind == "trigger"
        or (kind == "view" and name not in VIEWS)
        or (kind == "table" and sql.upper().startswith("CREATE VIRTUAL"))
    ]
    tables = [name for name, kind, _ in parts if kind == "table" and name not in found]
    computed = "SELECT 1 FROM pragma_table_xinfo(?) WHERE hidden <> 0"
    return found + [name for name in tables if database.execute(computed, [name]).fetchone()]


def make_tables(database: sqlite3.Connection) -> None:
    """Makes the tables in an empty file, in the transaction that is open."""
    for statement in SCHEMA.split(";\n"):
        database.execute(statement)
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def upgrade(database: sqlite3.Connection) -> None:
    """Brings an open journal of an earlier version up to this one; a reader takes it as it is."""
    version = header(database)[1]
    for number in range(version + 1, SCHEMA_VERSION + 1):
        database.executescript(f"BEGIN; {UPGRADES[number]} PRAGMA user_version = {number}; COMMIT;")


def header(database: sqlite3.Connection) -> tuple[int, int]:
    """Application id and schema version that a file says it has."""
    application = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    return int(application), int(version)


def columns(database: sqlite3.Connection, table: str) -> frozenset[str]:
    """Columns that a table has: a journal of an earlier version that is only read may lack some."""
    return frozenset(row[1] for row in database.execute(f"PRAGMA table_info({table})"))
