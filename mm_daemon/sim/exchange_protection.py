"""Setting, reading and resetting the protection groups of an account."""

from mm_daemon.sim.accounts_valuation import available_funds
from mm_daemon.sim.exchange_errors import Code, VenueError, invalid_params
from mm_daemon.sim.exchange_records import MmpConfig, MmpStatus
from mm_daemon.sim.exchange_state import ExchangeState
from mm_daemon.sim.exchange_types import Caller, CancelReason, MmpConfigRequest
from mm_daemon.sim.mmp import MmpGroup, config_of
from mm_daemon.sim.orders_fills import pull_group


def set_mmp_config(
    state: ExchangeState, caller: Caller, request: MmpConfigRequest, now_us: int
) -> MmpConfig | None:
    """Stores or replaces one group's configuration; interval 0 deletes the group.

    Deleting pulls the group's orders (reason mmp_config_curtailment) and frees its reserve; a
    replacement restarts counters and keeps a freeze. Raises 10009 if the reserve can't be held.
    """
    account = state.account(caller)
    if request.index_name not in state.by_index:
        raise invalid_params("index_name", "unknown index")
    key = (request.index_name, request.mmp_group)
    if request.interval_s == 0:
        if key in account.mmp_groups:
            reason = CancelReason.MMP_CONFIG_CURTAILMENT
            pull_group(state, account.name, key, reason, now_us)
            del account.mmp_groups[key]
        return None
    config = config_of(request)
    before = account.mmp_groups.get(key)
    bound = [index for index, name in account.mmp_groups if name == request.mmp_group and name]
    if bound and bound[0] != request.index_name:
        raise invalid_params("mmp_group", f"already bound to {bound[0]}")
    if before is None and len(account.mmp_groups) >= state.config.mmp_groups_max:
        raise VenueError(Code.OTHER_REJECT, data={"reason": "too many mmp groups"})
    group = MmpGroup(config)
    if before is not None and before.frozen_at(now_us):
        group.is_frozen, group.frozen_until_us = True, before.frozen_until_us
    account.mmp_groups[key] = group
    if any(_funds_short(state, caller, currency, now_us) for currency in account.balances):
        if before is None:
            del account.mmp_groups[key]
        else:
            account.mmp_groups[key] = before
        raise VenueError(Code.NOT_ENOUGH_FUNDS)
    return config


def _funds_short(state: ExchangeState, caller: Caller, currency: str, now_us: int) -> bool:
    return available_funds(state, state.account(caller), currency, now_us) < 0.0


def _groups(
    state: ExchangeState, caller: Caller, index_name: str | None, mmp_group: str | None
) -> list[MmpGroup]:
    """Groups in order of index and name."""
    groups = state.account(caller).mmp_groups
    return [
        groups[key]
        for key in sorted(groups)
        if index_name in {None, key[0]} and mmp_group in {None, key[1]}
    ]


def mmp_configs(
    state: ExchangeState, caller: Caller, index_name: str | None, mmp_group: str | None
) -> list[MmpConfig]:
    return [group.config for group in _groups(state, caller, index_name, mmp_group)]


def mmp_status(
    state: ExchangeState,
    caller: Caller,
    index_name: str | None,
    mmp_group: str | None,
    now_us: int,
) -> list[MmpStatus]:
    """The groups that are frozen now."""
    return [
        MmpStatus(
            index_name=group.config.index_name,
            mmp_group=group.config.mmp_group,
            frozen_until_ms=group.frozen_until_ms(),
        )
        for group in _groups(state, caller, index_name, mmp_group)
        if group.frozen_at(now_us)
    ]


def reset_mmp(state: ExchangeState, caller: Caller, index_name: str, mmp_group: str | None) -> None:
    """Ends the freeze of one group (None: the default group). Raises 13020 if there is none."""
    group = state.account(caller).mmp_groups.get((index_name, mmp_group or ""))
    if group is None:
        raise VenueError(Code.NOT_FOUND, data={"reason": "no such mmp group"})
    group.reset()
