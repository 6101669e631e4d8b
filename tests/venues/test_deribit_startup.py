"""The opening dialogues, each refusal of them, refresh, heartbeats and silence."""

from __future__ import annotations

import itertools

import pytest
from msgspec.structs import replace

from mm_daemon.domain.errors import ConfigError
from mm_daemon.domain.events import (
    AccountConfirmed,
    BookLost,
    CreditLimits,
    FrameRefused,
    InstrumentsRead,
    MmpTriggered,
    PlatformChanged,
    SessionChanged,
    SessionPhase,
)
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.orders import AccountEvidence
from mm_daemon.domain.units import NS_PER_S
from mm_daemon.venues.deribit.secrets import sign
from mm_daemon.venues.deribit.settings import SelfTrading
from tests.venues.deribit_peer import (
    GROUP,
    LISTING,
    SCOPE,
    SECRET,
    SETTINGS,
    T0_MS,
    VENUE_AHEAD_NS,
    Peer,
    RefusalError,
    SilenceError,
    ready_peer,
    summary,
)


def opened(peer: Peer) -> Peer:
    base = peer.replies["private/set_mmp_config"]

    def keep(params: dict[str, object]) -> object:
        peer.mmp.update(params)
        return base(params)

    peer.replies["private/set_mmp_config"] = keep
    peer.connect(*Conn)
    return peer


def test_all_three_connections_become_ready() -> None:
    peer = opened(Peer())
    assert [peer.phase(conn) for conn in Conn] == [SessionPhase.READY] * 3
    phases = [e.phase for e in peer.events if isinstance(e, SessionChanged) and e.conn == 1]
    assert phases == [SessionPhase.CONNECTED, SessionPhase.AUTHENTICATED, SessionPhase.READY]


def test_the_trading_session_arms_and_reads_back_before_it_is_ready() -> None:
    peer = opened(Peer())
    assert peer.methods(Conn.TRADE) == [
        "public/auth",
        "public/set_heartbeat",
        "private/enable_cancel_on_disconnect",
        "private/get_cancel_on_disconnect",
        "private/set_mmp_config",
        "private/get_mmp_config",
        "private/get_mmp_status",
        "private/get_account_summaries",
        "private/subscribe",
    ]
    kinds = [type(event) for event in peer.events]
    confirmed = kinds.index(AccountConfirmed)
    ready = peer.events.index(SessionChanged(int(Conn.TRADE), SessionPhase.READY, ""))
    assert kinds.index(CreditLimits) < confirmed < ready
    assert peer.events[confirmed] == AccountConfirmed(
        cancel_on_disconnect=True,
        mmp_groups=(GROUP.name,),
        portfolio_margin=True,
        fee_maker_option=0.0003,
        fee_taker_future=0.0005,
    )
    equities = [e.equity_e8 for e in peer.events if isinstance(e, AccountEvidence)]
    assert equities == [20_012_345_678] * 2


def test_limits_are_read_by_class() -> None:
    peer = opened(Peer())
    limits = next(event for event in peer.events if isinstance(event, CreditLimits))
    assert limits == CreditLimits(30, 100, 500, 500, 10, 10, 5, 20, 20, 100)


def test_per_currency_limits_take_the_smallest_of_ours() -> None:
    peer = Peer()
    table = {
        "limits_per_currency": True,
        "non_matching_engine": {"rate": 20, "burst": 100},
        "matching_engine": {
            "cancel_all": {"rate": 5, "burst": 20},
            "btc": {"trading": {"total": {"rate": 9, "burst": 30}}},
            "eth": {"trading": {"total": {"rate": 7, "burst": 40}}},
        },
    }
    rows = [{**summary("BTC"), "limits": table}, {**summary("ETH"), "limits": table}]
    peer.replies["private/get_account_summaries"] = lambda _: {"summaries": rows}
    opened(peer)
    limits = next(event for event in peer.events if isinstance(event, CreditLimits))
    assert limits == CreditLimits(7, 30, 0, 0, 0, 0, 5, 20, 20, 100)


def test_the_accounts_own_fixed_fees_replace_the_instruments() -> None:
    peer = Peer()
    value = {"default": {"type": "fixed", "maker": -0.0001, "taker": 0.0002}}
    relative = {"default": {"type": "relative", "maker": 0.5, "taker": 0.5}}
    fees = [
        {"index_name": "btc_usd", "kind": "option", "value": value},
        {"index_name": "eth_usd", "kind": "future", "value": relative},
        {"currency": "BTC", "fee_type": "relative", "maker_fee": 0.5},
    ]
    rows = [{**summary("BTC"), "fees": fees}, summary("ETH")]
    peer.replies["private/get_account_summaries"] = lambda _: {"summaries": rows}
    opened(peer)
    read = [event for event in peer.events if isinstance(event, InstrumentsRead)][-1]
    rates = [(terms.fees.maker, terms.fees.taker) for terms in read.instruments]
    assert rates[1:4] == [(-0.0001, 0.0002)] * 3
    assert rates[4:] == [(0.0, 0.0005), (0.0003, 0.0003)]


def test_auth_is_signed_with_venue_time_and_fresh_nonces() -> None:
    peer = opened(Peer())
    asked = [request["params"] for _, request in peer.sent if request["method"] == "public/auth"]
    nonces = [params["nonce"] for params in asked]  # type: ignore[index]
    assert len(set(nonces)) == 3
    first = asked[0]
    assert isinstance(first, dict)
    assert first["timestamp"] == T0_MS
    assert first["signature"] == sign(SECRET, T0_MS, str(first["nonce"]), "")
    raw = [frame.payload for frame in peer.frames if b"public/auth" in frame.payload]
    assert all(b'"signature":"{signature}"' in payload for payload in raw)
    assert all(SECRET.encode() not in payload for payload in raw)


def test_the_clock_offset_is_measured() -> None:
    peer = ready_peer()
    assert peer.protocol.clock.offset_ns == VENUE_AHEAD_NS
    assert peer.protocol.clock.rtt_ns == 1_000_000


def test_the_catalogue_is_read_sorted_and_dense() -> None:
    peer = opened(Peer())
    read = next(event for event in peer.events if isinstance(event, InstrumentsRead))
    assert [terms.name for terms in read.instruments] == [
        "BTC-PERPETUAL",
        "BTC-13FEB26-70000-C",
        "BTC-13FEB26-80000-C",
        "BTC-13FEB26-80000-P",
        "ETH-PERPETUAL",
        "ETH-13FEB26-3000-C",
    ]
    assert [terms.id for terms in read.instruments] == list(range(6))


def test_locks_are_told_and_lifted_at_start() -> None:
    peer = Peer()
    peer.replies["public/status"] = lambda _: {"locked": "partial", "locked_indices": ["eth_usd"]}
    opened(peer)
    told = [event for event in peer.events if isinstance(event, PlatformChanged)]
    assert told == [
        PlatformChanged("", False),
        PlatformChanged("btc_usd", False),
        PlatformChanged("eth_usd", True),
    ]


def test_self_trading_is_set_only_where_configured() -> None:
    assert "private/set_self_trading_config" not in opened(Peer()).methods(Conn.TRADE)
    wanted = SelfTrading(
        mode="cancel_maker", extended_to_subaccounts=True, block_rfq_self_match_prevention=True
    )
    peer = Peer(replace(SETTINGS, self_trading=wanted))
    peer.replies["private/set_self_trading_config"] = lambda _: "ok"
    opened(peer)
    assert peer.last("private/set_self_trading_config") == {
        "mode": "cancel_maker",
        "extended_to_subaccounts": True,
        "block_rfq_self_match_prevention": True,
    }
    assert peer.phase(Conn.TRADE) is SessionPhase.READY


REFUSED_STEPS = [
    ("public/auth", Conn.TRADE),
    ("public/set_heartbeat", Conn.TRADE),
    ("private/enable_cancel_on_disconnect", Conn.TRADE),
    ("private/get_cancel_on_disconnect", Conn.TRADE),
    ("private/set_mmp_config", Conn.TRADE),
    ("private/get_mmp_config", Conn.TRADE),
    ("private/get_mmp_status", Conn.TRADE),
    ("private/get_account_summaries", Conn.TRADE),
    ("public/status", Conn.MARKET),
]


@pytest.mark.parametrize(("method", "conn"), REFUSED_STEPS)
def test_a_refused_step_keeps_the_session_from_being_ready_and_is_retried(
    method: str, conn: Conn
) -> None:
    peer = Peer()
    good = peer.replies[method]
    refusals = 2

    def flaky(params: dict[str, object]) -> object:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise RefusalError(13021, "forbidden")
        return good(params)

    peer.replies[method] = flaky
    base = peer.replies["private/set_mmp_config"]
    peer.replies["private/set_mmp_config"] = lambda p: (base(p), peer.mmp.update(p))[0]
    peer.connect(conn)
    assert peer.phase(conn) is not SessionPhase.READY
    assert "13021 forbidden" in peer.reasons(conn)[0]
    assert not [event for event in peer.events if isinstance(event, AccountConfirmed)]
    if conn is Conn.TRADE:
        peer.connect(Conn.MARKET)
    peer.tick(10)
    assert peer.phase(conn) is SessionPhase.READY


def test_missing_scope_is_named() -> None:
    peer = Peer()
    granted = {
        "access_token": "a",
        "refresh_token": "r",
        "expires_in": 900,
        "scope": SCOPE.replace("trade:read_write", "trade:read"),
    }
    peer.replies["public/auth"] = lambda _: granted
    peer.connect(Conn.TRADE)
    assert peer.phase(Conn.TRADE) is SessionPhase.CONNECTED
    assert "trade:read_write" in peer.reasons(Conn.TRADE)[0].split(";")[0]
    assert peer.methods(Conn.TRADE) == ["public/auth"]


def test_disarmed_cancel_on_disconnect_refuses() -> None:
    peer = Peer()
    peer.replies["private/get_cancel_on_disconnect"] = lambda _: {
        "enabled": False,
        "scope": "connection",
    }
    opened(peer)
    assert peer.phase(Conn.TRADE) is SessionPhase.AUTHENTICATED
    assert "cancel-on-disconnect" in peer.reasons(Conn.TRADE)[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("interval", 6),
        ("frozen_time", 1),
        ("quantity_limit", 10.1),
        ("delta_limit", None),
        ("vega_limit", 5000.4),
        ("max_quote_quantity", 21.0),
        ("index_name", "eth_usd"),
        ("mmp_group", "other"),
    ],
)
def test_any_difference_in_protection_refuses(key: str, value: object) -> None:
    peer = Peer()
    peer.replies["private/get_mmp_config"] = lambda _: [{**peer.mmp, key: value}]
    opened(peer)
    assert peer.phase(Conn.TRADE) is SessionPhase.AUTHENTICATED
    assert GROUP.name in peer.reasons(Conn.TRADE)[0]


@pytest.mark.parametrize("frozen_until", [0, 1_795_003_200_000])
def test_a_group_that_is_still_frozen_is_told_as_tripped_before_the_session_is_ready(
    frozen_until: int,
) -> None:
    peer = Peer()
    row = {"index_name": "btc_usd", "frozen_until": frozen_until, "mmp_group": GROUP.name}
    others = [{**row, "mmp_group": "other"}, {"index_name": "btc_usd", "frozen_until": 0}]
    peer.replies["private/get_mmp_status"] = lambda _: [*others, row]
    opened(peer)
    told = MmpTriggered("btc_usd", GROUP.name, frozen_until * 1_000_000)
    assert [event for event in peer.events if isinstance(event, MmpTriggered)] == [told]
    ready = SessionChanged(int(Conn.TRADE), SessionPhase.READY, "")
    assert peer.events.index(told) < peer.events.index(ready)
    asked = [body for _, body in peer.sent if body["method"] == "private/get_mmp_status"]
    assert [body["params"] for body in asked] == [
        {"index_name": GROUP.price_index, "mmp_group": GROUP.name}
    ]


def test_a_private_channel_not_granted_refuses_after_one_retry() -> None:
    peer = Peer()
    peer.replies["private/subscribe"] = lambda params: [
        name
        for name in params["channels"]
        if "user.changes" not in name  # type: ignore[union-attr]
    ]
    opened(peer)
    assert peer.methods(Conn.TRADE).count("private/subscribe") == 2
    assert peer.phase(Conn.TRADE) is SessionPhase.AUTHENTICATED
    assert "user.changes.any.any.raw" in peer.reasons(Conn.TRADE)[0]


def test_the_trading_session_waits_for_the_catalogue() -> None:
    peer = Peer()
    base = peer.replies["private/set_mmp_config"]
    peer.replies["private/set_mmp_config"] = lambda p: (base(p), peer.mmp.update(p))[0]
    peer.connect(Conn.TRADE)
    assert peer.phase(Conn.TRADE) is SessionPhase.AUTHENTICATED
    assert "private/subscribe" not in peer.methods(Conn.TRADE)
    peer.connect(Conn.MARKET)
    assert peer.phase(Conn.TRADE) is SessionPhase.READY


def test_a_market_channel_not_granted_is_retried_once_and_its_book_is_lost() -> None:
    peer = Peer()
    bad = "book.BTC-13FEB26-70000-C.100ms"
    peer.replies["public/subscribe"] = lambda params: [
        name
        for name in params["channels"]
        if name != bad  # type: ignore[union-attr]
    ]
    opened(peer)
    assert peer.phase(Conn.MARKET) is SessionPhase.READY
    lost = [event for event in peer.events if isinstance(event, BookLost)]
    assert [event.instrument_id for event in lost] == [1]
    assert bad in lost[0].reason
    assert peer.methods(Conn.MARKET).count("public/subscribe") == 3


def test_a_batch_refused_for_one_name_is_halved_until_it_stands_alone() -> None:
    peer = Peer()
    bad = "book.BTC-13FEB26-70000-C.100ms"

    def refuse(params: dict[str, object]) -> object:
        if bad in params["channels"]:  # type: ignore[operator]
            raise RefusalError(11052, "bad_channel")
        return params["channels"]

    peer.replies["public/subscribe"] = refuse
    opened(peer)
    peer.tick(20)
    assert peer.phase(Conn.MARKET) is SessionPhase.READY
    lost = [event.instrument_id for event in peer.events if isinstance(event, BookLost)]
    assert lost == [1]


def test_large_chains_are_subscribed_in_legal_paced_batches() -> None:
    peer = Peer()
    rows = [
        {**LISTING["BTC"][1], "instrument_name": f"BTC-13FEB26-{k}-C", "strike": float(k)}
        for k in range(50_000, 53_000)
    ]
    peer.replies["public/get_instruments"] = lambda p: rows if p["currency"] == "BTC" else []
    opened(peer)
    peer.tick(4)
    assert peer.phase(Conn.MARKET) is SessionPhase.READY
    times: list[int] = []
    channels: list[str] = []
    for at_ns, frame, (_, request) in zip(peer.times_ns, peer.frames, peer.sent, strict=True):
        if request["method"] in ("public/subscribe", "private/subscribe"):
            names = request["params"]["channels"]  # type: ignore[index]
            assert len(names) <= 500
            assert len(frame.payload) < 32_000
            channels += names
            times.append(at_ns)
    assert len(channels) == len(set(channels)) > 6_000
    assert len(times) > 10
    assert times[-1] - times[0] >= (len(times) - 10) * 0.3 * NS_PER_S


def test_death_at_10028() -> None:
    peer = Peer()

    def refuse(_: dict[str, object]) -> object:
        raise RefusalError(10028, "too_many_requests")

    peer.replies["private/get_account_summaries"] = refuse
    opened(peer)
    assert peer.phase(Conn.TRADE) is SessionPhase.DOWN
    assert peer.protocol.take_disconnects() == [Conn.TRADE]
    assert peer.protocol.take_disconnects() == []


def test_a_step_without_answer_gives_the_connection_up() -> None:
    peer = Peer()

    def silent(_: dict[str, object]) -> object:
        raise SilenceError

    peer.replies["private/get_account_summaries"] = silent
    opened(peer)
    peer.tick(6)
    assert peer.phase(Conn.TRADE) is SessionPhase.DOWN
    assert peer.protocol.take_disconnects() == [Conn.TRADE]
    assert "start_accounts" in peer.reasons(Conn.TRADE)[-1]


def test_a_connection_given_up_is_told_once_and_can_be_opened_again() -> None:
    peer = ready_peer()

    def silent(_: dict[str, object]) -> object:
        raise SilenceError

    answers, peer.replies["public/test"] = peer.replies["public/test"], silent
    peer.tick(1.9)
    assert peer.methods(Conn.TRADE) == []
    peer.tick(5.2)
    downs = [e for e in peer.events if isinstance(e, SessionChanged) and e.conn == Conn.TRADE]
    assert [event.phase for event in downs] == [SessionPhase.DOWN]
    assert downs[0].reason == "no reply to test in time"
    peer.replies["public/test"] = answers
    assert peer.disconnect(Conn.TRADE) == []
    peer.connect(Conn.TRADE, Conn.MARKET)
    assert peer.phase(Conn.TRADE) is SessionPhase.READY
    assert peer.phase(Conn.MARKET) is SessionPhase.READY


def test_a_quiet_session_is_asked_every_two_seconds_and_lives_by_its_answers() -> None:
    peer = ready_peer()
    peer.tick(60)
    assert set(peer.methods(Conn.TRADE)) == {"public/test"}
    assert 28 <= len(peer.methods(Conn.TRADE)) <= 30
    assert not [event for event in peer.events if isinstance(event, SessionChanged)]


def test_a_session_that_speaks_but_is_slow_to_answer_is_kept() -> None:
    peer = ready_peer()
    peer.holds = ("public/test",)
    beat = {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "heartbeat"}}
    peer.tick(2.1)
    for _ in range(20):
        for conn in Conn:
            peer.say(conn, beat)
        peer.tick(1)
    assert not [event for event in peer.events if isinstance(event, SessionChanged)]
    assert peer.methods(Conn.TRADE) == ["public/test"]


def test_test_request_is_answered_at_once_and_traffic_keeps_the_session() -> None:
    peer = ready_peer()
    beat = {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}}
    quiet = {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "heartbeat"}}
    for _ in range(6):
        for conn in Conn:
            assert peer.say(conn, beat) == []
            peer.say(conn, quiet)
        peer.run()
        peer.tick(1.9)
    assert peer.methods(Conn.TRADE) == ["public/test"] * 6
    assert not [event for event in peer.events if isinstance(event, SessionChanged)]


def keep_alive(peer: Peer, seconds: int) -> None:
    for _ in range(seconds):
        for conn in Conn:
            peer.say(conn, {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "x"}})
        peer.tick(1)


def test_tokens_are_refreshed_at_four_fifths_of_their_life() -> None:
    peer = ready_peer()
    keep_alive(peer, 700)
    assert peer.methods(Conn.TRADE) == []
    keep_alive(peer, 40)
    assert peer.methods(Conn.TRADE) == ["public/auth"]
    params = peer.last("public/auth")
    assert params["grant_type"] == "refresh_token"
    assert str(params["refresh_token"]).startswith("refresh-")
    raw = next(frame.payload for frame in peer.frames if frame.conn is Conn.TRADE)
    assert b'"refresh_token":"{refresh_token}"' in raw


def test_a_refused_refresh_signs_in_again_and_a_refused_sign_in_ends_the_connection() -> None:
    peer = ready_peer()
    grants: list[str] = []
    good = peer.replies["public/auth"]

    def picky(params: dict[str, object]) -> object:
        grants.append(str(params["grant_type"]))
        if params["grant_type"] == "refresh_token":
            raise RefusalError(13009, "unauthorized")
        return good(params)

    peer.replies["public/auth"] = picky
    keep_alive(peer, 740)
    assert sorted(grants) == ["client_signature"] * 3 + ["refresh_token"] * 3
    assert not [event for event in peer.events if isinstance(event, SessionChanged)]

    def refuse(params: dict[str, object]) -> object:
        raise RefusalError(13004, "invalid_credentials")

    peer.replies["public/auth"] = refuse
    keep_alive(peer, 740)
    assert peer.phase(Conn.TRADE) is SessionPhase.DOWN
    assert "13004" in peer.reasons(Conn.TRADE)[-1]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_replies_of_different_connections_may_come_in_any_order(order: tuple[int, ...]) -> None:
    peer = Peer()
    peer.holds = ("public/auth",)
    opened(peer)
    assert len(peer.held) == 3
    peer.release(list(order))
    assert [peer.phase(conn) for conn in Conn] == [SessionPhase.READY] * 3


def test_instruments_may_be_answered_in_any_order() -> None:
    catalogues = []
    for order in ([0, 1], [1, 0]):
        peer = Peer()
        peer.holds = ("public/get_instruments",)
        opened(peer)
        peer.release(order)
        read = next(event for event in peer.events if isinstance(event, InstrumentsRead))
        catalogues.append(read.instruments)
        assert peer.phase(Conn.MARKET) is SessionPhase.READY
    assert catalogues[0] == catalogues[1]


def test_an_unrepresentable_instrument_is_left_out_and_told() -> None:
    peer = Peer()
    steps = [{"above_price": 0.005, "tick_size": 0.0005}, {"above_price": 0.1, "tick_size": 0.001}]
    odd = {**LISTING["BTC"][1], "instrument_name": "BTC-13FEB26-1-C", "tick_size_steps": steps}
    peer.replies["public/get_instruments"] = lambda p: [*LISTING[str(p["currency"])], odd]
    opened(peer)
    refused = [event.reason for event in peer.events if isinstance(event, FrameRefused)]
    assert any("BTC-13FEB26-1-C: 2 tick steps" in reason for reason in refused)
    assert peer.phase(Conn.MARKET) is SessionPhase.READY


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"client_id": ""}, "client_id"),
        ({"session_prefix": ""}, "session_prefix"),
        ({"underlyings": ()}, "underlyings"),
        ({"heartbeat_s": 9}, "heartbeat_s"),
        ({"option_book": "50ms"}, "option_book"),
        ({"mmp_groups": (GROUP, GROUP)}, "mmp_groups"),
        ({"mmp_groups": (replace(GROUP, delta_limit=10.0),)}, "mmp_groups"),
        ({"mmp_groups": (replace(GROUP, price_index="sol_usdc"),)}, "mmp_groups"),
    ],
)
def test_unusable_settings_are_refused_by_key(change: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        Peer(replace(SETTINGS, **change))
