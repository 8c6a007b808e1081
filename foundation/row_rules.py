"""Rules that each row of a table keeps, checked by one trigger.

PostgreSQL parses and plans every CHECK constraint of a table again for each statement that writes to it, prepared or not: 5 µs
each, a third of the work of a short statement on a table with twenty of them. A trigger function is compiled once a session.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.db.models import BaseConstraint

if TYPE_CHECKING:
    from django.db.backends.base.schema import BaseDatabaseSchemaEditor
    from django.db.models import Model

# The first line of a violation is that of a CHECK constraint, without the row: it may hold a payload.
_CREATE = """
CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $rules$
DECLARE
    broken text := CASE
        {cases}
    END;
BEGIN
    IF broken IS NULL THEN
        RETURN NEW;
    END IF;
    RAISE check_violation USING CONSTRAINT = broken, TABLE = TG_TABLE_NAME, SCHEMA = TG_TABLE_SCHEMA,
        MESSAGE = format('new row for relation "%s" violates check constraint "%s"', TG_TABLE_NAME, broken);
END $rules$;
CREATE TRIGGER {name} BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()"""


class RowRules(BaseConstraint):
    """Refuse a row that breaks one of the rules, with the error of a CHECK constraint that has the rule's name.

    rules: by name, an SQL expression over NEW that is true or NULL for a legal row.
    """

    def __init__(self, *, table: str, rules: Mapping[str, str]) -> None:
        super().__init__(name=f"{table}_is_legal")
        self.table = table
        self.rules = {name: " ".join(rule.split()) for name, rule in rules.items()}

    def constraint_sql(self, model: type[Model] | None, schema_editor: BaseDatabaseSchemaEditor | None) -> str:
        """Create the trigger after its table, because it cannot be a part of CREATE TABLE."""
        if schema_editor is not None:
            schema_editor.deferred_sql.append(self.create_sql(model, schema_editor))
        return ""

    def create_sql(self, _model: type[Model] | None, _schema_editor: BaseDatabaseSchemaEditor | None) -> str:
        """Return the statements that create the function and the trigger."""
        cases = "\n        ".join(f"WHEN NOT ({rule}) THEN '{name}'" for name, rule in sorted(self.rules.items()))
        return _CREATE.format(name=self.name, table=self.table, cases=cases)

    def remove_sql(self, _model: type[Model] | None, _schema_editor: BaseDatabaseSchemaEditor | None) -> str:
        """Return the statement that drops the function and, with it, the trigger."""
        return f"DROP FUNCTION {self.name}() CASCADE"

    def validate(self, *_args: object, **_kwargs: object) -> None:
        """Leave the rules to the database: no form writes these tables."""

    def deconstruct(self) -> Any:  # noqa: ANN401 - Django's signature
        """Return what a migration writes."""
        path, args, _ = super().deconstruct()
        return path, args, {"table": self.table, "rules": self.rules}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RowRules) and (self.table, self.rules) == (other.table, other.rules)

    def __hash__(self) -> int:
        return hash(self.name)
