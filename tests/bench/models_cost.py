"""One inference of sixty rows, and the encoding of a mass quote of sixty two-sided entries."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import orjson
from onnx import TensorProto, helper, numpy_helper

from mm_daemon.core.features import FEATURES
from mm_daemon.domain.frames import Conn
from mm_daemon.domain.intents import MassQuote, QuoteEntry
from mm_daemon.domain.units import NS_PER_S, Lots, Ns, Ticks
from mm_daemon.inference.manifest import MANIFEST, MODEL, load_manifest
from mm_daemon.inference.onnx_session import OnnxSession
from mm_daemon.venues.deribit.encode import Encoder
from tests.bench.chain import make_chain
from tests.bench.figures import Figure
from tests.bench.timing import alone_ns, paired
from tests.venues.deribit_peer import GROUP, T0_MS, Peer

SECTION = "Models and encoding"
ROWS = 60
HIDDEN = 16
SHIPPED = Path(__file__).parents[2] / "models"


def measure(*, rounds: int) -> list[Figure]:
    return [_inference(rounds), _encoding(rounds)]


def _inference(rounds: int) -> Figure:
    shipped = sorted(SHIPPED.glob(f"*/{MANIFEST}"))
    if shipped:
        directory = shipped[0].parent
        manifest = load_manifest(directory)
        session = OnnxSession(
            directory / MODEL, features=len(manifest.features), outputs=len(manifest.outputs)
        )
        origin = f"shipped model {directory.name}"
    else:
        session = _stand_in()
        origin = f"no model shipped: one hidden layer of {HIDDEN}, made here"
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((ROWS, session.features)).astype(np.float32)
    spent_ns = alone_ns(lambda: session.run(rows), rounds=8 * rounds, units=1)
    return Figure(
        section=SECTION,
        name="inference of 60 rows",
        value=spent_ns / 1e3,
        unit="us",
        note=origin,
    )


def _stand_in() -> OnnxSession:
    rng = np.random.default_rng(5)
    features = len(FEATURES)
    first = rng.standard_normal((features, HIDDEN)).astype(np.float32)
    last = rng.standard_normal((HIDDEN, 2)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Tanh", ["h"], ["t"]),
            helper.make_node("MatMul", ["t", "v"], ["y"]),
        ],
        "stand_in",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(first, "w"), numpy_helper.from_array(last, "v")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / MODEL
        path.write_bytes(model.SerializeToString())
        return OnnxSession(path, features=features, outputs=2)


def _encoding(rounds: int) -> Figure:
    """Against orjson on the same content as dicts that are already built."""
    peer = Peer()
    chain = make_chain(T0_MS, expiries=1, strikes=30)
    peer.replies["public/get_instruments"] = lambda params: (
        chain.listing if params["currency"] == "BTC" else []
    )
    peer.replies["private/set_mmp_config"] = lambda params: peer.mmp.update(params) or []
    peer.connect(*Conn)
    encoder = Encoder(peer.protocol.catalogue, peer.protocol.clock, (GROUP,))
    options = [one for one in peer.protocol.catalogue.instruments if one.is_option][:ROWS]
    intents = [_intent(tuple(one.id for one in options), turn) for turn in range(32)]
    dicts = [orjson.loads(encoder.mass_quotes(intent, 1)[0]) for intent in intents]
    pair = paired(
        lambda: [encoder.mass_quotes(intent, 1) for intent in intents],
        lambda: [orjson.dumps(one) for one in dicts],
        rounds=rounds,
        units=len(intents),
    )
    return Figure(
        section=SECTION,
        name=f"mass quote of {len(options)} entries encoded",
        value=pair.subject_ns / 1e3,
        unit="us",
        note=f"{pair.ratio:.2f} x orjson on ready dicts",
    )


def _intent(ids: tuple[int, ...], turn: int) -> MassQuote:
    entries = tuple(
        QuoteEntry(i, Ticks(90 + turn + i), Lots(3), Ticks(120 + turn + i), Lots(3)) for i in ids
    )
    return MassQuote(
        request_id=turn + 1,
        mmp_group=GROUP.name,
        quote_id=str(turn + 1),
        entries=entries,
        valid_until_ns=Ns(T0_MS * 1_000_000 + NS_PER_S),
    )
