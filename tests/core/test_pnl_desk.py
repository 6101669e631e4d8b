"""Equity beside the venue's: what is held without a mark has none, and nothing breaks on it."""

from __future__ import annotations

import math

import msgspec
import pytest

from mm_daemon.core import warm_up
from mm_daemon.domain.orders import Lots, Side
from mm_daemon.domain.units import COIN_SCALE, NS_PER_S, Ns
from tests.core.control_bench import NAME, state_of
from tests.node.engine_world import Bench


def held(kind: str) -> tuple[Bench, int, str]:
    """A bench that bought one lot, the instrument's id and its currency."""
    bench = Bench().quoting()
    bought = next(
        one
        for one in bench.instruments
        if one.underlying == NAME and one.is_inverse and one.is_option == (kind == "option")
    )
    fill = msgspec.structs.replace(
        warm_up._fill(bench.instruments, Ns(bench.now)),
        instrument_id=bought.id,
        side=Side.BUY,
        lots=Lots(1),
        price_e8=COIN_SCALE // 20 if bought.is_option else 60_000 * COIN_SCALE,
        fee_currency=bought.settle_currency,
    )
    bench.see(fill)
    return bench, bought.id, bought.settle_currency


@pytest.mark.parametrize("kind", ["perpetual", "option"])
def test_no_equity_is_known_while_something_held_has_no_mark(kind: str) -> None:
    bench, id_, currency = held(kind)
    state, pnl = state_of(bench), bench.engine.pnl
    assert state.portfolio.position_lots[id_] == 1
    account = warm_up._funds(currency)
    pnl.on_account(account, Ns(bench.now + 10 * NS_PER_S))
    known = dict(pnl.difference_e8)
    mark = float(state.market.mark[id_])
    assert math.isfinite(mark)
    state.market.mark[id_] = math.nan
    pnl.on_account(account, Ns(bench.now + 20 * NS_PER_S))
    pnl.step(Ns(bench.now + 20 * NS_PER_S))
    assert pnl.difference_e8 == known
    assert math.isnan(pnl.equity_usd["venue"])
    assert math.isnan(pnl.equity_usd["desk"])
    state.market.mark[id_] = mark
    pnl.step(Ns(bench.now + 30 * NS_PER_S))
    assert math.isfinite(pnl.equity_usd["venue"])
