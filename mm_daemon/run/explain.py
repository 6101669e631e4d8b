"""`mm-daemon explain SESSION ID`: why a quote, an order or a fill came to be.

The id is looked up in what the tape holds, our own outputs and the venue's messages, until it names
one message of ours. The tape's inputs are then decided again up to the step that sent that message,
and the decision is asked for its reasons right there. Nothing is connected to anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from mm_daemon.domain.codec import (
    FRAME_IN,
    STRUCTURED_OUT,
    decode_input,
    decode_output,
    is_input,
    is_ledger_record,
)
from mm_daemon.domain.outputs import FillRecord, IntentRecord, LedgerRecord, QuoteRecord
from mm_daemon.domain.units import Ns
from mm_daemon.ipc.session import read_header
from mm_daemon.ipc.tape import read_tape
from mm_daemon.node.node import Node

Explainer = Callable[[Node, str, Ns], msgspec.Struct]
"""The decision's reasons for one instrument, right after a step."""


class Asked(msgspec.Struct, frozen=True):
    """What the id turned out to be."""

    what: str
    """quote message, order, venue order or trade."""
    request_id: int
    instrument: str
    """Empty: every instrument of the message."""
    facts: dict[str, Any]
    """What the venue and our own records say of it."""


def explain(session: Path, what: str, node: Node, explainer: Explainer) -> dict[str, Any]:
    """Plain values. ValueError where the session does not know the id, or cannot be read."""
    read_header(session)
    asked = _look_up(session, _records(session), what)
    sent, ts_ns = _decide_until(session, node, asked.request_id)
    names = [asked.instrument] if asked.instrument else _instruments(sent)
    reasons = [explainer(node, name, ts_ns) for name in names]
    answer: dict[str, Any] = msgspec.json.decode(
        msgspec.json.encode(
            {
                "id": what,
                "is": asked.what,
                "decided_ts_ns": ts_ns,
                "facts": asked.facts,
                "message": sent,
                "reasons": reasons,
            }
        )
    )
    return answer


def _records(session: Path) -> list[LedgerRecord]:
    """What was put on the ledger, from the tape: a ledger drops what its checkpoints cover."""
    found = []
    for record in read_tape(session):
        if record.type == STRUCTURED_OUT:
            output = decode_output(record.type, record.flags, record.payload)
            if is_ledger_record(output):
                found.append(output)
    return found


def _look_up(session: Path, records: list[LedgerRecord], what: str) -> Asked:
    """The message of ours behind an id. ValueError where there is none."""
    asked = _ours(records, what)
    if asked is not None:
        return asked
    fill = next(
        (one for one in records if isinstance(one, FillRecord) and one.fill.trade_id == what), None
    )
    mention = _mention(session, "trade_id", what) or _mention(session, "order_id", what)
    if mention is None:
        raise ValueError(
            f"{session}: knows no request, quote, client, venue order or trade id {what!r}"
        )
    facts = {"venue": mention}
    if fill is not None:
        facts["fill"] = msgspec.to_builtins(fill)
    origin = _origin(records, mention)
    if origin is None:
        raise ValueError(
            f"{session}: {what!r} is {mention.get('instrument_name')}, label"
            f" {mention.get('label')!r}, quote {mention.get('quote_id')!r}; the message behind it"
            " was sent by another session or by somebody else"
        )
    kind = "trade" if "trade_id" in mention else "venue order"
    return Asked(kind, origin.request_id, str(mention["instrument_name"]), facts)


def _ours(records: list[LedgerRecord], what: str) -> Asked | None:
    """An id that we gave ourselves."""
    for record in records:
        if isinstance(record, QuoteRecord) and what in (record.quote_id, str(record.request_id)):
            return Asked("quote message", record.request_id, "", {})
        if isinstance(record, IntentRecord) and what in (record.client_id, str(record.request_id)):
            return Asked("order", record.request_id, record.instrument, {})
    return None


def _origin(
    records: list[LedgerRecord], mention: dict[str, Any]
) -> QuoteRecord | IntentRecord | None:
    """The message that a venue's row goes back to, by the label or quote id it carries."""
    label, quote_id = str(mention.get("label") or ""), str(mention.get("quote_id") or "")
    for record in records:
        if isinstance(record, IntentRecord) and label and record.client_id == label:
            return record
        if isinstance(record, QuoteRecord) and quote_id and record.quote_id == quote_id:
            return record
    return None


def _mention(session: Path, key: str, value: str) -> dict[str, Any] | None:
    """The first object in the venue's messages whose `key` is that id."""
    needle = value.encode()
    for record in read_tape(session):
        if record.type != FRAME_IN or needle not in record.payload:
            continue
        try:
            message = json.loads(record.payload)
        except ValueError:
            continue
        for found in _objects(message):
            if str(found.get(key)) == value and "instrument_name" in found:
                return found
    return None


def _objects(message: Any) -> Iterator[dict[str, Any]]:
    """Every object in a message, outermost first."""
    rest = [message]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            yield one
            rest.extend(one.values())
        elif isinstance(one, list):
            rest.extend(one)


def _decide_until(
    session: Path, node: Node, request_id: int
) -> tuple[QuoteRecord | IntentRecord, Ns]:
    """Steps the node through the tape until it sends that request; the record, and when."""
    for record in read_tape(session):
        if not is_input(record.type):
            continue
        event = decode_input(record.type, record.flags, record.payload)
        for output in node.step(Ns(record.ts_ns), event):
            if isinstance(output, QuoteRecord | IntentRecord) and output.request_id == request_id:
                return output, Ns(record.ts_ns)
    raise ValueError(
        f"{session}: the tape does not lead to request {request_id}; it was pruned, or"
        " `replay --verify` will name where this build decides otherwise"
    )


def _instruments(sent: QuoteRecord | IntentRecord) -> list[str]:
    if isinstance(sent, IntentRecord):
        return [sent.instrument]
    return [entry[0] for entry in sent.entries]


# -- for people ----------------------------------------------------------------------------------

_COLUMNS = ("price", "edge", "fee", "adverse", "lean", "own_size", "net", "fills_per_day")


def render(answer: dict[str, Any]) -> str:
    """The same in lines: what it is, then each instrument's reasons."""
    lines = [f"{answer['id']}: {answer['is']}, decided at {answer['decided_ts_ns']} ns"]
    lines += [f"  {name}: {json.dumps(fact)}" for name, fact in answer["facts"].items()]
    for reason in answer["reasons"]:
        lines.append("")
        lines += _option_lines(reason) if "bid" in reason else _hedge_lines(reason)
        risk = reason["risk"]
        use = ", ".join(f"{name} {_n(share)}" for name, share in risk["limit_use"].items())
        lines.append(f"  limits in use: {use}; collar {_n(risk['collar'])} from theo")
        tripped = ", ".join(risk["controls_tripped"]) or "none"
        lines.append(f"  controls tripped: {tripped}")
    return "\n".join(lines)


def _option_lines(reason: dict[str, Any]) -> list[str]:
    market, theo, lean = reason["market"], reason["theo"], reason["lean"]
    lines = [
        f"{reason['instrument']}",
        f"  market {_n(market['bid'])} x {_n(market['bid_amount'])} /"
        f" {_n(market['ask'])} x {_n(market['ask_amount'])}, mark {_n(market['mark'])},"
        f" book {'valid' if market['is_book_valid'] else 'INVALID'}, {_n(market['book_age_s'])} s",
        f"  theo {_n(theo['price'])} at vol {_n(theo['vol'])}, delta {_n(theo['delta'])}, forward"
        f" {_n(theo['forward'])} by {theo['forward_source']}, surface {_n(theo['surface_age_s'])} s"
        f" old, rms {_n(theo['surface_rms_vp'])} vp",
        f"  lean {_n(lean['lean'])}, own size {_n(lean['own_size'])}, position"
        f" {_n(lean['position'])}",
    ]
    for name in ("bid", "ask"):
        side, intensity = reason[name], reason[name]["intensity"]
        lines.append(
            f"  {name} {_n(side['amount'])} @ {_n(side['price'])}: {side['reason']}, edge"
            f" {_n(side['edge_usd'])} USD, {_n(side['value_usd_per_hour'])} USD/h; fills by"
            f" {intensity['fill_source']}, adverse cost by {intensity['spread_source']}"
        )
        lines.append("    " + "".join(f"{column:>14}" for column in _COLUMNS))
        for row in side["candidates"]:
            chosen = "  <-" if row["price"] == side["price"] else ""
            lines.append("    " + "".join(f"{_n(row[c]):>14}" for c in _COLUMNS) + chosen)
    return lines


def _hedge_lines(reason: dict[str, Any]) -> list[str]:
    market = reason["market"]
    return [
        f"{reason['instrument']}: hedge by {reason['policy']}",
        f"  delta {_n(reason['delta_coin'])} coin, band {_n(reason['band_coin'])}, out of it for"
        f" {_n(reason['out_of_band_s'])} s, failures {reason['failures']}",
        f"  market {_n(market['bid'])} / {_n(market['ask'])}, mark {_n(market['mark'])}",
    ]


def _n(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
