"""Methods about the connection itself: identity, heartbeats, subscriptions, its end."""

from mm_daemon.sim.deribit_wire_desk import Access, Desk
from mm_daemon.sim.deribit_wire_rpc import WireError, invalid_params
from mm_daemon.sim.deribit_wire_session import Call, CloseReason, Session
from mm_daemon.sim.exchange_types import Caller, CodScope
from mm_daemon.sim.spec import SECOND_US

VENUE_VERSION = "1.2.26"
HEARTBEAT_S_MIN = 10
HEARTBEAT_S_MAX = 3_600
_COD_SCOPES = tuple(scope.value for scope in CodScope)


def bind_account(desk: Desk, session: Session, account: str, now_us: int) -> Caller:
    """Let the exchange know the connection under its account, once per account."""
    caller = Caller(account=account, connection=session.connection)
    if session.caller == caller:
        return caller
    if session.caller is not None:
        desk.subscriptions.unsubscribe_all(session, private=True)
        desk.exchange.disconnect(session.caller, True, now_us)
    desk.exchange.connect(caller, now_us)
    session.caller = caller
    return caller


def auth(desk: Desk, call: Call) -> object:
    """public/auth: on a websocket it authenticates the socket."""
    session = call.session
    connection = session.connection if session is not None else None
    grant = desk.auth.authenticate(call.params, now_us=call.now_us, connection=connection)
    peer = session.peer if session is not None else ""
    desk.accesses.append(Access(ts_us=call.now_us, account=grant.account, peer=peer))
    if session is not None:
        session.grant = grant
        bind_account(desk, session, grant.account, call.now_us)
        desk.account_hub.logged_in(session, call.now_us)
    reply = grant.reply()
    state = call.params.text_or("state")
    if state is not None:
        reply["state"] = state
    return reply


def logout(desk: Desk, call: Call) -> object:
    """private/logout: the one way to leave that does not fire cancel-on-disconnect."""
    session = desk.session(call)
    if session.caller is not None:
        desk.exchange.disconnect(session.caller, True, call.now_us)
        session.caller = None
    if session.grant is not None and call.params.flag("invalidate_token", default=True):
        desk.auth.revoke(session.grant)
    session.closing = CloseReason.LOGOUT
    return "ok"


def hello(desk: Desk, call: Call) -> object:
    """A client introduces itself."""
    del desk
    if call.session is not None:
        call.session.client_name = call.params.text("client_name")
    return {"version": VENUE_VERSION}


def test(desk: Desk, call: Call) -> object:
    """Answers; with expected_result=exception, answers with an error."""
    del desk
    if call.session is not None:
        call.session.test_received()
    if call.params.text_or("expected_result") == "exception":
        raise WireError(11094, "internal_server_error", {"reason": "expected by the client"})
    return {"version": VENUE_VERSION}


def get_time(desk: Desk, call: Call) -> object:
    """The venue's clock in milliseconds."""
    del desk
    return call.now_us // 1_000


def status(desk: Desk, call: Call) -> object:
    """Which price indices are locked."""
    del call
    locked = desk.exchange.platform_status()[1]
    indices = desk.exchange.index_names()
    word = "false" if not locked else "true" if len(locked) == len(indices) else "partial"
    return {"locked": word, "locked_indices": locked, "locked_currencies": locked}


def set_heartbeat(desk: Desk, call: Call) -> object:
    """Ask for heartbeats; from then on every test_request must be answered."""
    session = desk.session(call)
    interval_s = call.params.integer("interval", low=HEARTBEAT_S_MIN, high=HEARTBEAT_S_MAX)
    session.set_heartbeat(interval_s * SECOND_US, call.now_us)
    return "ok"


def disable_heartbeat(desk: Desk, call: Call) -> object:
    """No more heartbeats."""
    desk.session(call).set_heartbeat(0, call.now_us)
    return "ok"


def _subscribe(desk: Desk, call: Call, *, private: bool) -> object:
    return desk.subscriptions.subscribe(
        desk.session(call),
        call.params.texts("channels"),
        private=private,
        label=call.params.text_or("label") if private else None,
        now_us=call.now_us,
    )


def subscribe_public(desk: Desk, call: Call) -> object:
    """public/subscribe."""
    return _subscribe(desk, call, private=False)


def subscribe_private(desk: Desk, call: Call) -> object:
    """private/subscribe: public channels are granted here as well."""
    return _subscribe(desk, call, private=True)


def _unsubscribe(desk: Desk, call: Call, *, private: bool) -> object:
    names = call.params.texts("channels")
    return desk.subscriptions.unsubscribe(desk.session(call), names, private=private)


def unsubscribe_public(desk: Desk, call: Call) -> object:
    """public/unsubscribe."""
    return _unsubscribe(desk, call, private=False)


def unsubscribe_private(desk: Desk, call: Call) -> object:
    """private/unsubscribe."""
    return _unsubscribe(desk, call, private=True)


def unsubscribe_all_public(desk: Desk, call: Call) -> object:
    """public/unsubscribe_all."""
    desk.subscriptions.unsubscribe_all(desk.session(call), private=False)
    return "ok"


def unsubscribe_all_private(desk: Desk, call: Call) -> object:
    """private/unsubscribe_all."""
    desk.subscriptions.unsubscribe_all(desk.session(call), private=True)
    return "ok"


def _cod_scope(call: Call) -> CodScope:
    scope = CodScope(call.params.one_of("scope", _COD_SCOPES, default="connection"))
    grant = call.grant
    allowed = grant is not None and grant.allows("account", "read_write")
    if scope is CodScope.ACCOUNT and not allowed:
        raise WireError(13021, "forbidden", {"reason": "scope account:read_write needed"})
    return scope


def enable_cancel_on_disconnect(desk: Desk, call: Call) -> object:
    """Cancel this connection's (or every later connection's) orders when it breaks."""
    desk.session(call)
    desk.exchange.set_cancel_on_disconnect(desk.caller(call), True, _cod_scope(call), call.now_us)
    return "ok"


def disable_cancel_on_disconnect(desk: Desk, call: Call) -> object:
    """The reverse."""
    desk.session(call)
    desk.exchange.set_cancel_on_disconnect(desk.caller(call), False, _cod_scope(call), call.now_us)
    return "ok"


def get_cancel_on_disconnect(desk: Desk, call: Call) -> object:
    """Whether it is armed, for reading back."""
    scope = _cod_scope(call)
    if scope is CodScope.CONNECTION:
        desk.session(call)
    enabled = desk.exchange.cancel_on_disconnect(desk.caller(call), scope)
    return {"scope": scope.value, "enabled": enabled}


def exchange_token(desk: Desk, call: Call) -> object:
    """Tokens move between subaccounts; there are none."""
    del desk
    call.params.text("refresh_token")
    raise invalid_params("subject_id", "the account has no subaccounts")
