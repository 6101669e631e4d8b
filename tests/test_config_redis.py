"""The store's section of the configuration: what is refused, and that no secret is ever quoted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mm_daemon.app_lease import lease_settings
from mm_daemon.config import example_text, parse
from mm_daemon.domain.errors import ConfigError
from mm_daemon.ops.lease import NS_PER_S
from tests.test_config import changed, refusal


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:6379",
        "http://h:6379",
        "redis://",
        "redis://:6379",
        "redis://h:0",
        "redis://h:70000",
        "redis://h:x",
        "redis://h:6379/one",
        "redis://h:6379/0/1",
        "unix://",
    ],
)
def test_address_that_is_none_is_refused(url: str) -> None:
    assert "redis.url" in refusal(changed("url", f'"{url}"', table="redis"))


@pytest.mark.parametrize(
    "url", ["redis://h", "redis://h:6380/2", "rediss://ann@h:1/", "unix:///run/redis.sock", ""]
)
def test_address_that_is_one_is_taken(url: str) -> None:
    assert parse(changed("url", f'"{url}"', table="redis"), "x").redis.url == url


def test_password_in_the_address_is_refused_and_not_repeated() -> None:
    text = changed("url", '"redis://ann:hunter2@h:6379/0"', table="redis")
    assert "password_file" in refusal(text)
    assert "hunter2" not in refusal(text)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("timeout_s", "1.5", "renew_s"),
        ("renew_s", "1.6", "lease_ttl_s"),
        ("lease_ttl_s", "3.0", "renew_s"),
        ("lease_ttl_s", "0.1", "lease_ttl_s"),
        ("lease_ttl_s", "10.5", "permit_order_age_s_max"),
        ("firm", '"a b"', "firm"),
        ("password_file", '"p"', "redis.url"),
    ],
)
def test_times_that_do_not_nest_are_refused(key: str, value: str, named: str) -> None:
    assert named in refusal(changed(key, value, table="redis"))


def test_permit_may_not_outlive_t1_nor_t1_outlive_t2() -> None:
    assert "permit_quote_age_s_max" in refusal(changed("permit_s", "3.5"))
    assert "permit_order_age_s_max" in refusal(changed("permit_order_age_s_max", "2.0"))


def test_password_file_must_be_private_and_hold_something(tmp_path: Path) -> None:
    file = tmp_path / "password"
    text = changed("url", '"redis://h"', table="redis").replace(
        'password_file = ""', f'password_file = "{file}"'
    )
    redis = parse(text, "x").redis
    with pytest.raises(ConfigError, match=r"redis\.password_file"):
        redis.password()
    file.write_text("hunter2\n")
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="0400") as error:
        redis.password()
    assert "hunter2" not in str(error.value)
    file.chmod(0o400)
    assert redis.password() == "hunter2"
    file.unlink()
    fd = os.open(file, os.O_CREAT, 0o400)
    os.close(fd)
    with pytest.raises(ConfigError, match="empty"):
        redis.password()


def test_takeover_fits_the_lease_and_five_seconds() -> None:
    times = lease_settings(parse(example_text(), "x"), "h:1").times
    assert times.settle_ns(0) < 2 * NS_PER_S, "which leaves three for the trader to quote"


def test_permit_lasts_for_t1_where_there_is_a_store() -> None:
    text = changed("permit_s", "1.0")
    assert lease_settings(parse(text, "x"), "h:1").times.permit_ns == NS_PER_S
    stored = changed("url", '"redis://h"', table="redis", text=text)
    settings = lease_settings(parse(stored, "x"), "h:1")
    assert settings.times.permit_ns == 3 * NS_PER_S
    assert settings.store is not None
