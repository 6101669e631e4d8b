"""What one seed of the simulation is: a small world, tight or loose settings, and a few faults.

A plan is plain values, one line of JSON, and with the build all that its run depends on. Seeds draw
few kinds of fault each ("swarm"), so that rare combinations are met alone and not drowned.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec

from mm_daemon.run.simulation_worlds import EXPIRY_START_US, START_US

SECONDS: Final = (3.0, 7.0)
"""Length of the part with faults, in virtual time."""


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fault or act: seconds after the start, how long, how much, of what."""

    kind: str
    at_s: float
    for_s: float = 0.0
    amount: float = 0.0
    detail: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run. `mm-daemon simulate --plan` takes its JSON."""

    seed: int
    seconds: float = 6.0
    strikes: int = 5
    start_us: int = START_US
    dated_ahead_s: float = 2 * 86_400.0
    delivery_window_s: float = 60.0
    delivery_delay_s: float = 0.0
    stop_before_expiry_s: float = 20.0
    lists_at_s: float = 0.0
    sleeps: tuple[float, float] | None = None
    """From when to when host and market sleep."""
    vol_multiple: float = 1.0
    takes_per_s: float = 6.0
    tier: int = 1
    band_delta_coin: float = 0.1
    position_lots_max: int = 1_000
    delta_coin_max: float = 200.0
    request_timeout_ms: int = 1_500
    reconcile_s: float = 3.0
    crash_count_max: int = 1_000_000
    faults: tuple[Fault, ...] = ()


def encode(plan: Plan) -> str:
    """One line of JSON."""
    return msgspec.json.encode(plan).decode()


def decode(text: str | bytes) -> Plan:
    """Raises msgspec.ValidationError or DecodeError, naming the field, for what is no plan."""
    return msgspec.json.decode(text, type=Plan)


# Kind: (weight, how often at most in one plan).
KINDS: Final[dict[str, tuple[float, int]]] = {
    "lost": (3.0, 2),
    "late": (3.0, 2),
    "doubled": (2.0, 2),
    "overtaken": (3.0, 2),
    "cut": (2.0, 3),
    "cut_byte": (3.0, 3),
    "half_open": (1.0, 1),
    "outage": (1.5, 1),
    "restart": (1.5, 1),
    "gap": (1.0, 3),
    "slow_acks": (2.0, 1),
    "refused": (2.0, 3),
    "too_many": (1.0, 1),
    "maintenance": (1.0, 1),
    "crash": (3.0, 2),
    "host_crash": (1.5, 1),
    "permit": (1.5, 1),
    "clock": (1.5, 2),
    "disk": (1.0, 1),
    "pause": (1.5, 2),
    "kill": (2.5, 2),
    "knob": (1.0, 3),
    "backpressure": (1.0, 2),
}
EXPIRY_SHARE: Final = 0.06
"""Of all plans live through a delivery."""
EXPIRY_S: Final = 22_500.0
"""From EXPIRY_START_US to the delivery."""
SLEEP_S: Final = 3.0
WAKE_S: Final = 6.0
AFTER_S: Final = 3.0
SWEEP_SEEDS: Final = 1_000_000
"""Swept runs have seeds of their own."""
SWEEP_SECONDS: Final = 2.0
SWEEP_WITHOUT: Final = ("crash", "host_crash", "kill", "pause", "permit", "clock", "disk")
LEVELS: Final = ("halt_quoting", "cancel_all", "cancel_all", "hedge_only", "flatten")
CONNS: Final = ("MARKET", "TRADE", "TRADE", "KILL")
FROM_VENUE: Final = ("acks", "acks", "account", "account", "books", "answers")
MESSAGES: Final = (*FROM_VENUE, "requests", "reads", "all")
REFUSED: Final = ("get_open_orders", "get_user_trades", "get_positions", "private/get_", "cancel")
KNOBS: Final = (("width", 0.5, 4.0), ("size_ratio", 0.0, 3.0), ("vol_offset_vp", -2.0, 2.0))


def draw(seed: int) -> Plan:
    """The plan of a seed: the same for ever, as long as this function is."""
    rng = random.Random(f"plan {seed}")
    seconds = round(rng.uniform(*SECONDS), 3)
    faults: list[Fault] = []
    kinds, weights = list(KINDS), [weight for weight, _ in KINDS.values()]
    for kind in dict.fromkeys(rng.choices(kinds, weights, k=rng.choice((0, 1, 1, 2, 2, 3, 4)))):
        for _ in range(rng.randint(1, KINDS[kind][1])):
            faults.append(_fault(kind, rng, seconds))
    plan = Plan(
        seed=seed,
        seconds=seconds,
        strikes=rng.choice((5, 5, 6)),
        vol_multiple=rng.choice((1.0, 1.0, 3.0)),
        takes_per_s=rng.choice((6.0, 16.0, 40.0)),
        tier=rng.choice((1, 1, 2, 4)),
        band_delta_coin=rng.choice((0.01, 0.02, 0.1)),
        position_lots_max=rng.choice((6, 30, 1_000)),
        delta_coin_max=rng.choice((0.5, 2.0, 200.0)),
        request_timeout_ms=rng.choice((600, 1_500, 5_000)),
        reconcile_s=rng.choice((0.5, 1.0, 2.0)),
        lists_at_s=round(rng.uniform(1.5, seconds), 3) if rng.random() < 0.1 else 0.0,
        crash_count_max=rng.choice((1_000_000, 1_000_000, 2)),
        faults=tuple(sorted(faults, key=lambda fault: fault.at_s)),
    )
    return _over_an_expiry(plan, rng) if rng.random() < EXPIRY_SHARE else plan


def _over_an_expiry(plan: Plan, rng: random.Random) -> Plan:
    """The same faults around a delivery, whose price may be late: quotes first, then sleep until
    shortly before it."""
    wakes_s = EXPIRY_S - WAKE_S
    return msgspec.structs.replace(
        plan,
        start_us=EXPIRY_START_US,
        dated_ahead_s=0.0,
        strikes=9,
        delivery_window_s=4.0,
        delivery_delay_s=rng.choice((0.0, 0.0, 2.0, 15.0)),
        stop_before_expiry_s=4.0,
        lists_at_s=0.0,
        sleeps=(SLEEP_S, wakes_s),
        seconds=wakes_s + WAKE_S + AFTER_S,
        faults=tuple(
            msgspec.structs.replace(fault, at_s=round(wakes_s + fault.at_s, 4))
            for fault in plan.faults
            if fault.kind not in ("gap", "clock")
        ),
    )


def sweep_plan(number: int) -> Plan:
    """The plan of one swept run: short, and with the faults of a seed but those that act on the
    daemon as a whole, for it is about to be killed, crashed and cut off at every step."""
    plan = draw(SWEEP_SEEDS + number)
    return msgspec.structs.replace(
        plan,
        seconds=SWEEP_SECONDS,
        strikes=5,
        crash_count_max=1_000_000,
        reconcile_s=0.5,
        faults=tuple(
            fault
            for fault in plan.faults
            if fault.kind not in SWEEP_WITHOUT and fault.at_s < SWEEP_SECONDS
        ),
    )


def _fault(kind: str, rng: random.Random, seconds: float) -> Fault:
    """One occurrence, early ones included: starting up is a time like any other."""
    at_s = round(rng.uniform(0.0, seconds), 4)
    for_s = amount = 0.0
    detail = ""
    if kind in ("lost", "late", "doubled", "overtaken"):
        for_s, amount = seconds, rng.choice((0.01, 0.05, 0.25))
        # What we write once on one connection arrives at most once and in its order.
        detail = rng.choice(MESSAGES if kind in ("lost", "late") else FROM_VENUE)
    elif kind in ("cut", "half_open"):
        detail = rng.choice(CONNS)
    elif kind == "cut_byte":
        amount = float(rng.randint(1, 20_000))
        detail = f"{rng.choice(CONNS)} {rng.choice(('up', 'down'))}"
    elif kind in ("outage", "restart", "maintenance"):
        for_s = rng.uniform(0.1, 2.0)
    elif kind == "gap":
        amount, detail = float(rng.randint(1, 3)), rng.choice(("option", "perpetual"))
    elif kind == "slow_acks":
        for_s, amount = rng.uniform(0.5, 3.0), rng.choice((50.0, 400.0, 1_500.0))
    elif kind == "refused":
        amount, detail = float(rng.randint(1, 6)), rng.choice(REFUSED)
    elif kind in ("crash", "host_crash"):
        amount = float(rng.randint(1, 400))
        detail = str(rng.choice((0, 1, 40, 700, 5_000))) if kind == "host_crash" else ""
    elif kind == "permit":
        for_s = rng.uniform(1.0, 6.0)
    elif kind == "clock":
        amount = round(rng.choice((-1.0, 1.0)) * 10.0 ** rng.uniform(-2.0, 3.5), 3)
    elif kind == "disk":
        for_s = rng.uniform(0.05, 2.0)
    elif kind == "pause":
        for_s = rng.choice((0.1, 0.5, 1.2, 3.0, 8.0))
    elif kind == "kill":
        for_s, detail = rng.uniform(0.5, 4.0), rng.choice(LEVELS)
    elif kind == "knob":
        detail, low, high = rng.choice(KNOBS)
        amount = round(rng.uniform(low, high), 3)
    elif kind == "backpressure":
        for_s = rng.uniform(0.05, 1.0)
    return Fault(kind, at_s, round(for_s, 4), amount, detail)
