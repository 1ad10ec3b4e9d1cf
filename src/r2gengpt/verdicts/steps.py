"""The steps that make a store's tables, one after another, by Alembic. Keeps no verdict."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory

MIGRATIONS = Path(__file__).with_name("migrations")
MIGRATING = 0x72326776
"""The number of PostgreSQL's lock that whoever changes the tables holds."""


class NewerTables(Exception):
    """The tables were made by a version that is not known here; holds their step."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def is_older(step: str) -> bool:
    """Whether tables at this step are of an earlier version; "" is before the first one."""
    scripts = ScriptDirectory.from_config(_config())
    before = {script.revision for script in scripts.walk_revisions()} - {scripts.get_current_head()}
    return step in {"", *before}


def upgrade(connection: sa.Connection) -> None:
    """Bring the tables up to this version's, in the connection's transaction, one process after the other.

    Raises:
        NewerTables: they are ahead of it.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATING})
    config = _config()
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}

    def steps(revision: Any, context: Any) -> Any:
        for one in [revision] if isinstance(revision, str) else revision:
            if one not in known:
                raise NewerTables(one)
        return scripts._upgrade_revs("head", revision)

    with EnvironmentContext(config, scripts, fn=steps) as environment:
        environment.configure(connection=connection, target_metadata=None)
        environment.run_migrations()
