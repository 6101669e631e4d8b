"""The configuration file: what is refused, that the refusal names the key, and what is kept out.

Each case changes one thing of the shipped example, so that the example itself is tested in passing.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from mm_daemon import config as configuration
from mm_daemon.config import Config, example_text, load, parse, without_secrets
from mm_daemon.domain.errors import ConfigError
from mm_daemon.domain.params import RiskLimits

EXAMPLE = example_text()
LIMITS = tuple(field.name for field in msgspec.structs.fields(RiskLimits))


def changed(key: str, value: str | None, *, table: str = "", text: str = EXAMPLE) -> str:
    """`text` with the first `key` after the heading `[table]` set to `value`, or left out."""
    start = text.index(f"[{table}]") if table else 0
    head, tail = text[:start], text[start:]
    line = "" if value is None else f"{key} = {value}\n"
    tail, count = re.subn(rf"^{key} = .*\n", line.replace("\\", "\\\\"), tail, count=1, flags=re.M)
    assert count == 1, key
    return head + tail


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        parse(text, "desk.toml")
    message = str(error.value)
    assert message.startswith("desk.toml")
    assert "\n" not in message
    return message


def test_shipped_example_is_whole() -> None:
    config = parse(EXAMPLE, configuration.EXAMPLE)
    assert config.daemon.environment == "sim"
    assert [one.name for one in config.underlyings] == ["BTC", "ETH"]
    assert config.venue.key.client_id == "demo-maker"


def test_unknown_key_is_refused_by_name() -> None:
    text = EXAMPLE.replace("[guard]\n", "[guard]\nstall_s = 2\n")
    assert "stall_s" in refusal(text)
    assert "$.guard" in refusal(text)


def test_unknown_table_is_refused_by_name() -> None:
    assert "hedging" in refusal(EXAMPLE + "\n[hedging]\nband = 1\n")


@pytest.mark.parametrize("limit", LIMITS)
def test_absent_limit_is_refused_by_name_and_never_defaulted(limit: str) -> None:
    message = refusal(changed(limit, None, table="underlyings.limits"))
    assert limit in message
    assert "$.underlyings[0].limits" in message


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("value", ["nan", "inf", "-1.0", '"1"', "true"])
def test_limit_that_is_no_number_in_range_is_refused_by_name(limit: str, value: str) -> None:
    assert limit in refusal(changed(limit, value, table="underlyings.limits"))


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("daemon", "environment", '"production"'),
        ("daemon", "shard", '"A shard"'),
        ("daemon", "data_dir", "5"),
        ("daemon", "log_level", '"loud"'),
        ("venue", "heartbeat_s", "5"),
        ("venue", "heartbeat_s", "10.5"),
        ("venue", "request_timeout_ms", "0"),
        ("ops", "control_listen", '"8700"'),
        ("ops", "permit_s", "-3.0"),
        ("guard", "stall_ms", '"1500"'),
        ("throttle", "use_ratio", "1.5"),
        ("breaker", "loss_day_usd_max", "nan"),
        ("underlyings.hedge", "policy", '"none"'),
        ("underlyings.quoting", "size_lots_near", "2.5"),
    ],
)
def test_wrong_type_or_range_is_refused_by_name(table: str, key: str, value: str) -> None:
    assert key in refusal(changed(key, value, table=table))


@pytest.mark.parametrize("table", ["daemon", "venue.key", "guard.key", "breaker", "throttle"])
def test_missing_table_is_refused_by_name(table: str) -> None:
    text = re.sub(rf"^\[{re.escape(table)}\]\n(?:(?!\[).*\n)*", "", EXAMPLE, count=1, flags=re.M)
    assert text != EXAMPLE
    assert table.rpartition(".")[2] in refusal(text)


def test_text_that_is_no_toml_is_refused_with_its_line() -> None:
    assert "line 3" in refusal("[daemon]\nshard = 'a'\nnonsense\n")


def test_underlying_named_twice_is_refused() -> None:
    assert "each once" in refusal(EXAMPLE.replace('name = "ETH"', 'name = "BTC"'))


def test_bounds_in_the_wrong_order_are_refused_by_name() -> None:
    message = refusal(changed("margin_stop_ratio", "0.95", table="underlyings.limits"))
    assert "margin_stop_ratio" in message
    assert "margin_reduce_ratio" in message


# -- keys and hosts --------------------------------------------------------------------------------


def with_hosts(environment: str, host: str, text: str = EXAMPLE) -> str:
    text = text.replace('environment = "sim"', f'environment = "{environment}"')
    return text.replace("ws://127.0.0.1:8712", f"wss://{host}").replace(
        "http://127.0.0.1:8712", f"https://{host}"
    )


def with_secret_files(text: str, client_id: str = "AbCdEf") -> str:
    text = text.replace("reset_cooldown_s = 2.0", "reset_cooldown_s = 60.0")
    text = re.sub(r"client_secret = .*", 'client_secret_file = "/etc/mm/key"', text)
    return re.sub(r'client_id = "demo-\w+"', f'client_id = "{client_id}"', text)


@pytest.mark.parametrize(
    ("environment", "host"),
    [
        ("sim", "www.deribit.com"),
        ("sim", "test.deribit.com"),
        ("test", "www.deribit.com"),
        ("test", "127.0.0.1"),
        ("prod", "test.deribit.com"),
        ("prod", "127.0.0.1"),
        ("prod", "www.deribit.com.example.org"),
    ],
)
def test_environment_and_host_must_agree(environment: str, host: str) -> None:
    message = refusal(with_secret_files(with_hosts(environment, host)))
    assert "venue.ws_url" in message
    assert repr(host) in message


@pytest.mark.parametrize(
    ("environment", "host"), [("prod", "www.deribit.com"), ("test", "test.deribit.com")]
)
def test_real_environments_take_keys_from_files_only(environment: str, host: str) -> None:
    text = with_hosts(environment, host)
    assert "venue.key.client_secret" in refusal(text)
    assert "demo-secret" not in refusal(text)
    config = parse(with_secret_files(text), "desk.toml")
    assert config.venue.key.client_secret == ""


@pytest.mark.parametrize(("key", "value"), [("reset_persons", "1"), ("reset_cooldown_s", "59.9")])
def test_production_is_reset_by_two_people_after_a_minute(key: str, value: str) -> None:
    whole = with_secret_files(with_hosts("prod", "www.deribit.com"))
    message = refusal(re.sub(rf"^{key} = \S+", f"{key} = {value}", whole, flags=re.M))
    assert f"ops.{key}" in message
    assert value in message
    assert parse(changed(key, value), "desk.toml").ops


def test_key_of_the_simulation_against_production_is_refused() -> None:
    text = with_hosts("prod", "www.deribit.com")
    message = refusal(with_secret_files(text, client_id="demo-maker"))
    assert "venue.key.client_id" in message


def test_rest_host_is_judged_as_well_as_the_websockets() -> None:
    text = EXAMPLE.replace("http://127.0.0.1:8712", "https://www.deribit.com")
    assert "venue.rest_url" in refusal(text)


@pytest.mark.parametrize(
    "lines",
    ['client_id = "a"\n', 'client_id = "a"\nclient_secret = "b"\nclient_secret_file = "c"\n'],
)
def test_exactly_one_source_of_a_secret_is_needed(lines: str) -> None:
    text = re.sub(r"(\[guard.key\]\n)(?:(?!\[|\n).*\n)*", rf"\1{lines}", EXAMPLE)
    assert "guard.key" in refusal(text)


def credential(path: Path) -> configuration.CredentialConfig:
    return configuration.CredentialConfig(client_id="a", client_secret_file=str(path))


def test_secret_file_must_exist_be_private_and_hold_something(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(ConfigError, match="No such file"):
        credential(path).secret()
    path.write_text("hush\n")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 0400"):
        credential(path).secret()
    path.chmod(0o400)
    assert credential(path).secret() == "hush"
    path.chmod(0o600)
    path.write_text("\n")
    path.chmod(0o400)
    with pytest.raises(ConfigError, match="empty"):
        credential(path).secret()


def test_stored_tree_carries_no_secret() -> None:
    stored = msgspec.json.encode(without_secrets(parse(EXAMPLE, "desk.toml")))
    assert b"demo-secret" not in stored
    assert b"demo-maker" in stored
    again = msgspec.json.decode(stored, type=Config)
    assert again.underlyings == parse(EXAMPLE, "desk.toml").underlyings


# -- places ----------------------------------------------------------------------------------------


def test_missing_file_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        load(tmp_path / "nowhere.toml")


def test_file_that_is_no_text_is_refused_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"c\.toml"):
        load(path)


def test_runtime_dir_is_below_the_data_dir_unless_named() -> None:
    config = parse(EXAMPLE, "desk.toml")
    assert config.runtime_dir == config.data_dir / "run"
    named = parse(changed("runtime_dir", '"/run/mm"'), "desk.toml")
    assert named.runtime_dir == Path("/run/mm")


def test_every_key_of_the_example_says_its_meaning_or_range() -> None:
    """A key without a comment must carry its unit or meaning in its name: only names and URLs."""
    bare = {
        re.match(r"(\w+) =", line)[1]  # type: ignore[index]
        for line in EXAMPLE.splitlines()
        if re.match(r"\w+ =", line) and "#" not in line
    }
    assert bare <= {
        "name", "price_index", "hedge_instrument", "ws_url", "rest_url", "client_id",
        "client_secret", "fill", "spread", "group", "control_listen", "metrics_listen",
    }  # fmt: skip
