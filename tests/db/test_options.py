"""What can be set is the same for the caller and inside, and is checked at start-up."""

from dataclasses import MISSING, fields
from typing import Any, get_type_hints

import pytest

from fastapi_kit.db import Database, DatabaseOptions, SyncDatabase
from fastapi_kit.db.options import Settings
from fastapi_kit.errors import ConfigurationError


def settings(**options: Any) -> Settings:
    return Settings(**options)


def test_the_options_and_the_settings_have_the_same_fields_and_types() -> None:
    assert get_type_hints(DatabaseOptions) == get_type_hints(Settings)
    assert list(get_type_hints(DatabaseOptions)) == [field.name for field in fields(Settings)]


def test_every_setting_has_a_default() -> None:
    without = [f.name for f in fields(Settings) if f.default is MISSING and f.default_factory is MISSING]
    assert without == []


@pytest.mark.parametrize(("name", "at_least"), [("pool_size", 1), ("max_overflow", 0), ("repeated_queries", 2)])
def test_a_count_below_its_bound_names_the_bound(name: str, at_least: int) -> None:
    settings(**{name: at_least})
    with pytest.raises(ConfigurationError, match=f"^`{name}` is {at_least - 1}: give {at_least} or more$"):
        settings(**{name: at_least - 1})
    with pytest.raises(ConfigurationError, match=f"^`{name}` is '9'"):
        settings(**{name: "9"})


@pytest.mark.parametrize("name", [field.name for field in fields(Settings) if field.name.endswith("_seconds")])
@pytest.mark.parametrize("value", [0, -1, float("nan"), "0.2"])
def test_a_time_that_is_not_above_zero_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"^`{name}` is {value!r}: give a number of seconds above 0$"):
        settings(**{name: value})


@pytest.mark.parametrize(("database", "url"), [(Database, "sqlite+aiosqlite://"), (SyncDatabase, "sqlite+pysqlite://")])
def test_both_databases_check_them(database: Any, url: str) -> None:
    with pytest.raises(ConfigurationError, match="`pool_size` is 0"):
        database(url, pool_size=0)
    with pytest.raises(ConfigurationError, match=r"`create_all` is .*: give the MetaData"):
        database(url, create_all=object())
    with pytest.raises(ConfigurationError, match="`replicas` is one URL: give a list"):
        database(url, replicas=url)


def test_what_may_be_left_out_may_be_none_and_no_other_number() -> None:
    types = get_type_hints(Settings)
    optional = {name: None for name, of in types.items() if type(None) in getattr(of, "__args__", ())}
    assert set(optional) == {"statement_timeout_seconds", "slow_query_seconds", "repeated_queries"}
    settings(**optional)
    for name in (name for name, of in types.items() if of in {int, float}):
        with pytest.raises(ConfigurationError, match=f"^`{name}` is None: give "):
            settings(**{name: None})
