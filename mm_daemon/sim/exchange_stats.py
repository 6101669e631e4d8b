"""Rolling 24-hour statistics of one instrument, kept in hourly buckets.

The window is therefore exact to the hour: what is reported covers between 23 and 24 hours.
"""

from mm_daemon.sim.exchange_listed import Listed, StatsBucket
from mm_daemon.sim.exchange_records import Stats
from mm_daemon.sim.exchange_types import PublicTrade
from mm_daemon.sim.fees import coin_size_e8
from mm_daemon.sim.spec import E8, HOUR_US, div_half_even

HOURS = 24


def count_trade(listed: Listed, trade: PublicTrade) -> None:
    """Adds one print to the bucket of its hour; old buckets leave."""
    start_us = trade.ts_us // HOUR_US * HOUR_US
    buckets = listed.stats
    if not buckets or buckets[-1].start_us != start_us:
        price_e8 = trade.price_e8
        buckets.append(StatsBucket(start_us, price_e8, price_e8, price_e8, 0, 0))
    bucket = buckets[-1]
    bucket.low_e8 = min(bucket.low_e8, trade.price_e8)
    bucket.high_e8 = max(bucket.high_e8, trade.price_e8)
    coin_e8 = coin_size_e8(listed.spec, trade.amount_e8, trade.price_e8)
    bucket.volume_e8 += coin_e8
    if listed.spec.is_inverse_future:
        bucket.volume_usd_e8 += trade.amount_e8
    else:
        unit_e8 = trade.index_price_e8 if listed.spec.is_option else trade.price_e8
        bucket.volume_usd_e8 += div_half_even(coin_e8 * unit_e8, E8)
    _forget(listed, trade.ts_us)


def _forget(listed: Listed, now_us: int) -> None:
    oldest_us = now_us // HOUR_US * HOUR_US - (HOURS - 1) * HOUR_US
    while listed.stats and listed.stats[0].start_us < oldest_us:
        listed.stats.popleft()


def stats_of(listed: Listed, now_us: int) -> Stats:
    _forget(listed, now_us)
    buckets = listed.stats
    if not buckets:
        return Stats(volume_e8=0, volume_usd_e8=0, low_e8=None, high_e8=None, price_change_pct=None)
    assert listed.last_price_e8 is not None
    change_pct = 100.0 * (listed.last_price_e8 / buckets[0].open_e8 - 1.0)
    return Stats(
        volume_e8=sum(bucket.volume_e8 for bucket in buckets),
        volume_usd_e8=sum(bucket.volume_usd_e8 for bucket in buckets),
        low_e8=min(bucket.low_e8 for bucket in buckets),
        high_e8=max(bucket.high_e8 for bucket in buckets),
        price_change_pct=round(change_pct, 4),
    )
