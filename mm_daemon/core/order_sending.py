"""The last steps of every single order: risk gate, credit, working orders, ledger, protocol.

One order has one way out, whoever wants it: judged on the worst case, paid for in credits, counted
in full, on the ledger before its bytes. A refusal is said with its numbers and changes nothing.
"""

from __future__ import annotations

from mm_daemon.core.state import EngineState
from mm_daemon.domain.intents import PlaceOrder
from mm_daemon.domain.outputs import IntentRecord
from mm_daemon.domain.units import COIN_SCALE, Ns


def send_order(state: EngineState, intent: PlaceOrder, now_ns: Ns) -> bool:
    """Sends a limit order; False where it was refused here and nothing of it is left."""
    s, kind = state, intent.purpose.value
    assert intent.price_ticks is not None, intent
    name = s.names[intent.instrument_id]
    s.risk.refresh(s.portfolio.position_lots, s.working)
    verdict = s.risk.check(intent, s.working, now_ns)
    if verdict.allowed is None or not s.throttle.try_spend(intent, now_ns):
        if verdict.allowed is not None:
            s.metrics.add("mm_risk_refusals_total", control="C6")
        for refused in verdict.refused:
            s.count_refusal(refused, now_ns)
            s.outbox.log(
                "warning",
                f"{kind}_refused",
                instrument=name,
                control=refused.control,
                reason=refused.reason.name.lower(),
                found=refused.found,
                allowed=refused.allowed,
            )
        return False
    s.working.register(intent, now_ns)
    instrument = s.catalog.instruments[intent.instrument_id]
    price = instrument.grid.price(intent.price_ticks)
    s.outbox.put(
        IntentRecord(
            request_id=intent.request_id,
            client_id=intent.client_id,
            instrument=name,
            side=intent.side,
            price_e8=round(price * COIN_SCALE),
            lots=intent.lots,
            purpose=intent.purpose,
            valid_until_ns=intent.valid_until_ns,
            theo=float(s.theo.price[intent.instrument_id]),
        )
    )
    s.outbox.send(intent)
    s.breaker.messages[instrument.underlying].add_message(now_ns)
    s.metrics.add("mm_orders_total", kind=kind, outcome="sent")
    return True
