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
    """0: the message behind it is not of this session."""
    instrument: str
    """Empty: every instrument of the message."""
    facts: dict[str, Any]
    """What the venue and our own records say of it."""


def explain(session: Path, what: str, node: Node, explainer: Explainer) -> dict[str, Any]:
    """Plain values. `what`: an id, or `quote:`, `order:` or `trade:` before it.

    Raises: ValueError where the session does not know the id, or it may mean two things.
    """
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
    """The message of ours behind an id. ValueError where there is none, or more than one."""
    prefix, colon, rest = what.partition(":")
    kinds, id_ = ((prefix,), rest) if colon and prefix in _MEANINGS else (tuple(_MEANINGS), what)
    by_kind = {kind: _MEANINGS[kind](session, records, id_) for kind in kinds}
    found = [asked for meant in by_kind.values() for asked in meant]
    if not found:
        raise ValueError(
            f"{session}: knows no request, quote, client, venue order or trade id {what!r}"
        )
    if len(found) > 1:
        named = " or ".join(f"{kind}:{id_}" for kind, meant in by_kind.items() if meant)
        raise ValueError(f"{session}: {what!r} has more than one meaning: ask for {named}")
    (asked,) = found
    if not asked.request_id:
        mention = asked.facts["venue"]
        raise ValueError(
            f"{session}: {asked.what} {id_} is {asked.instrument}, label {mention.get('label')!r},"
            f" quote {mention.get('quote_id')!r}; the message behind it was sent by another session"
            " or by somebody else"
        )
    return asked


def _quote(_: Path, records: list[LedgerRecord], id_: str) -> list[Asked]:
    """A mass quote of ours, by its quote id or request id."""
    return [
        Asked("quote message", record.request_id, "", {})
        for record in records
        if isinstance(record, QuoteRecord) and id_ in (record.quote_id, str(record.request_id))
    ]


def _order(session: Path, records: list[LedgerRecord], id_: str) -> list[Asked]:
    """A single order by our client id or request id, or any order by the venue's id."""
    ours = [
        Asked("order", record.request_id, record.instrument, {})
        for record in records
        if isinstance(record, IntentRecord) and id_ in (record.client_id, str(record.request_id))
    ]
    return ours + _venues(session, records, "order_id", id_, "venue order")


def _trade(session: Path, records: list[LedgerRecord], id_: str) -> list[Asked]:
    """A fill, by the venue's trade id."""
    found = _venues(session, records, "trade_id", id_, "trade")
    fills = [one for one in records if isinstance(one, FillRecord) and one.fill.trade_id == id_]
    return [
        msgspec.structs.replace(
            asked,
            facts={**asked.facts, "fill": msgspec.to_builtins(fills[0])} if fills else asked.facts,
        )
        for asked in found
    ]


def _venues(
    session: Path, records: list[LedgerRecord], key: str, id_: str, what: str
) -> list[Asked]:
    """What the venue named, traced to the message it goes back to."""
    mention = _mention(session, key, id_)
    if mention is None:
        return []
    origin = _origin(records, mention)
    request_id = 0 if origin is None else origin.request_id
    return [Asked(what, request_id, str(mention["instrument_name"]), {"venue": mention})]


_MEANINGS: dict[str, Callable[[Path, list[LedgerRecord], str], list[Asked]]] = {
    "quote": _quote,
    "order": _order,
    "trade": _trade,
}
"""What an id may be; `quote:52` says which, where one number is several things."""


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
    """The first object about an order or trade of ours whose `key` is that id; public trades carry
    the trade's id too, but no order's."""
    needle = value.encode()
    for record in read_tape(session):
        if record.type != FRAME_IN or needle not in record.payload:
            continue
        try:
            message = json.loads(record.payload)
        except ValueError:
            continue
        for found in _objects(message):
            if str(found.get(key)) == value and {"order_id", "instrument_name"} <= found.keys():
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
