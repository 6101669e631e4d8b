"""What was trained is what is served: equal numbers, equal bytes, refused where they differ."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mm_daemon.core.features import FEATURES, LAYOUT_HASH
from mm_daemon.core.intensity import Intensity, Model
from mm_daemon.core.quote_terms import I_ADVERSE, I_K, I_LN_A
from mm_daemon.domain.errors import ConfigError
from mm_daemon.domain.events import PublicTrade
from mm_daemon.domain.outputs import AskInference
from mm_daemon.domain.units import NS_PER_S, Ns, Side
from mm_daemon.inference.manifest import MANIFEST, MODEL, OutputRange
from mm_daemon.inference.registry import LoadedModel, ModelRunner
from mm_daemon.research.datasets import Recording
from mm_daemon.research.export_onnx import CARD, ModelFacts, onnx_bytes, parity, write_model
from mm_daemon.research.hinge_basis import HingeBasis, LinearHead, fit_basis
from mm_daemon.research.training import train_fill, train_spread
from tests.core import chain_world
from tests.research.learning_world import INTENSITY, SmallDecision, rows_of, sampler

SECONDS = 400


def head(seed: int, outputs: int, *, bends: bool = True) -> LinearHead:
    generator = np.random.default_rng(seed)
    basis = fit_basis(rows_of(generator, 500), bends=bends)
    return LinearHead(
        basis=basis,
        weights=generator.normal(0.0, 0.5, (basis.size, outputs)).astype(np.float32),
        bias=generator.normal(0.0, 1.0, outputs).astype(np.float32),
    )


def facts(kind: str, outputs: int) -> ModelFacts:
    return ModelFacts(
        kind=kind,
        outputs=tuple(OutputRange(f"y{i}", -10.0, 10.0) for i in range(outputs)),
        trained_at="2026-01-02",
        trained_on="nothing",
        metrics={"r2": 0.5},
        seed=3,
    )


@pytest.mark.parametrize("bends", [True, False])
@pytest.mark.parametrize("outputs", [1, 2])
def test_served_model_equals_the_fitted_one(tmp_path: Path, outputs: int, bends: bool) -> None:
    made = head(1, outputs, bends=bends)
    rows = (4.0 * np.random.default_rng(2).normal(size=(700, len(FEATURES)))).astype(np.float32)
    write_model(tmp_path / "m", made, facts("fill", outputs), "card", rows)
    served = LoadedModel(tmp_path / "m", LAYOUT_HASH).session.run(rows)
    assert served.shape == (700, outputs)
    np.testing.assert_allclose(served, made.outputs(rows), rtol=1e-5, atol=1e-5)
    expected = made.basis.columns(rows).astype(np.float64) @ made.weights + made.bias
    np.testing.assert_allclose(served, expected, rtol=1e-4, atol=1e-4)


def test_equal_weights_give_equal_bytes_and_others_do_not() -> None:
    assert onnx_bytes(head(4, 2), "fill") == onnx_bytes(head(4, 2), "fill")
    assert onnx_bytes(head(4, 2), "fill") != onnx_bytes(head(5, 2), "fill")


def test_features_are_cut_where_training_saw_nothing() -> None:
    made = head(6, 1)
    rows = np.zeros((2, len(FEATURES)), dtype=np.float32)
    rows[0, 3], rows[1, 3] = 40.0, 4_000.0
    found = made.outputs(rows)
    assert found[0] == found[1]


def test_feature_that_never_moved_is_switched_off() -> None:
    rows = rows_of(np.random.default_rng(7), 300)
    rows[:, 5] = 2.0
    basis = fit_basis(rows, bends=True)
    moved = rows.copy()
    moved[:, 5] = -3.0
    np.testing.assert_array_equal(basis.columns(rows), basis.columns(moved))


def test_directory_is_replaced_whole_and_says_what_it_is(tmp_path: Path) -> None:
    rows = rows_of(np.random.default_rng(8), 50)
    old = write_model(tmp_path / "m", head(9, 2), facts("fill", 2), "old", rows)
    (tmp_path / "m" / "stray").write_text("left over")
    new = write_model(tmp_path / "m", head(10, 2), facts("fill", 2), "new", rows)
    assert sorted(one.name for one in (tmp_path / "m").iterdir()) == [CARD, MANIFEST, MODEL]
    assert (tmp_path / "m" / CARD).read_text() == "new"
    assert new.sha256 != old.sha256
    assert new.version == f"2026-01-02.{new.sha256[:8]}"
    stated = json.loads((tmp_path / "m" / MANIFEST).read_text())
    assert stated["feature_layout_hash"] == LAYOUT_HASH
    assert tuple(stated["features"]) == FEATURES
    assert [one.name for one in tmp_path.iterdir()] == ["m"]


def test_model_that_is_served_differently_is_not_kept(tmp_path: Path) -> None:
    """A basis that computes in another way than its graph is refused, and the old model stays."""

    class Bent(HingeBasis, frozen=True):
        def columns(self, rows: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
            return super().columns(rows) * np.float32(1.01)

    rows = rows_of(np.random.default_rng(11), 50)
    made = head(12, 2)
    kept = write_model(tmp_path / "m", made, facts("fill", 2), "kept", rows)
    basis = made.basis
    bent = Bent(basis.mean, basis.inverse_sd, basis.select, basis.knots)
    wrong = LinearHead(basis=bent, weights=made.weights, bias=made.bias)
    with pytest.raises(ConfigError, match="differs from the fitted one"):
        write_model(tmp_path / "m", wrong, facts("fill", 2), "wrong", rows)
    assert LoadedModel(tmp_path / "m", LAYOUT_HASH).manifest.sha256 == kept.sha256
    assert [one.name for one in tmp_path.iterdir()] == ["m"]


def test_parity_is_relative_beyond_one() -> None:
    assert parity(np.array([101.0, 0.5]), np.array([100.0, 0.5])) == pytest.approx(0.01)
    assert parity(np.array([]), np.array([])) == 0.0


def recorded(seed: int) -> Recording:
    """A small market where the near-the-money trade most, at and behind the touch."""
    world = SmallDecision()
    generator = np.random.default_rng(seed)
    ids = world.catalog.option_ids("BTC")
    near = np.abs(np.abs(world.theo.delta[ids]) - 0.5) < 0.2
    chances = np.where(near, 4.0, 1.0) / np.where(near, 4.0, 1.0).sum()
    feed = sampler(virtual_pairs=20, own_pairs=0, horizon_s=20.0)
    for second in range(SECONDS):
        now = Ns(chain_world.NOW + second * NS_PER_S)
        feed.sample(world, now)
        for _ in range(generator.poisson(1.5)):
            i = int(generator.choice(ids, p=chances))
            side = Side.SELL if generator.random() < 0.5 else Side.BUY
            grid = world.catalog.instruments[i].grid
            ticks = int(world.market.touch.ticks[0 if side is Side.SELL else 1, i])
            if generator.random() < 0.3:
                ticks = grid.down(ticks) if side is Side.SELL else grid.up(ticks)
            if ticks > 0:
                feed.on_print(
                    PublicTrade(i, side, grid.price(ticks), 1.0, 1, 1, False),
                    float(world.catalog.tick[i]),
                    Ns(now + NS_PER_S // 2),
                )
    return feed.recording()


@pytest.fixture(scope="module")
def recording() -> Recording:
    return recorded(13)


def test_small_session_trains_a_pair_that_the_decision_takes(
    tmp_path: Path, recording: Recording
) -> None:
    """From prints to quoting parameters: fit, export, load, ask, and the decision believes it."""
    fill = train_fill(recording, tmp_path / "fill", 1, "2026-01-02")
    spread = train_spread(recording, tmp_path / "spread", 1, "2026-01-02")
    assert fill.metrics["gain_over_analytic_per_fill"] > 0.5
    assert fill.metrics["expected_fills_held_out"] == pytest.approx(
        fill.metrics["fills_held_out"], rel=0.25
    )
    assert spread.metrics["horizon_s"] == 20.0
    models = {kind: LoadedModel(tmp_path / kind, LAYOUT_HASH) for kind in ("fill", "spread")}
    ticks = iter(range(0, 1_000, 5))
    runner = ModelRunner(models, lambda: next(ticks))
    world = SmallDecision()
    ids = world.catalog.option_ids("BTC")
    now = chain_world.NOW
    rows = world.features.build("BTC", ids, world.market, world.theo, now)
    slots = {kind: one.slot(refresh_ms=1000, deadline_ms=100) for kind, one in models.items()}
    intensity = Intensity(world.catalog, slots["fill"], slots["spread"])
    intensity.set_analytic(ids, INTENSITY, world.theo)
    for number, model in enumerate(Model):
        intensity.on_asked(number, model, "BTC", ids, now)
        answer = runner.run(AskInference(number, model.value, len(rows), rows.tobytes()))
        assert intensity.on_answer(answer, now) is None
    intensity.compose("BTC", ids, now, age_ns_max=NS_PER_S)
    assert intensity.fallbacks == {}
    columns = intensity.columns[:, :, ids]
    at_touch = columns[I_LN_A] - columns[I_K]
    near = np.abs(np.abs(world.theo.delta[ids]) - 0.5) < 0.2
    assert at_touch[:, near].mean() > at_touch[:, ~near].mean() + 0.5
    assert np.all(columns[I_K] > 0.0)
    assert np.isfinite(columns[I_ADVERSE]).all()


def test_equal_sessions_train_equal_models(tmp_path: Path, recording: Recording) -> None:
    first = train_fill(recording, tmp_path / "a", 1, "2026-01-02")
    again = train_fill(recorded(13), tmp_path / "b", 1, "2026-01-02")
    assert first == again
    assert (tmp_path / "a" / MODEL).read_bytes() == (tmp_path / "b" / MODEL).read_bytes()


def test_cards_state_data_and_held_out_figures(tmp_path: Path, recording: Recording) -> None:
    fill = train_fill(recording, tmp_path / "fill", 1, "2026-01-02")
    train_spread(recording, tmp_path / "spread", 1, "2026-01-02")
    text = (tmp_path / "fill" / CARD).read_text()
    assert f"{recording.prints} prints" in text
    assert f"{fill.metrics['gain_over_analytic_per_fill']:+.3f} over the" in text
    assert "Selection:" in text
    text = (tmp_path / "spread" / CARD).read_text()
    assert "20 s" in text
    assert "R² against the training mean" in text


def test_session_without_fills_trains_nothing(tmp_path: Path) -> None:
    world = SmallDecision()
    feed = sampler()
    for second in range(50):
        feed.sample(world, Ns(chain_world.NOW + second * NS_PER_S))
    with pytest.raises(ValueError, match="0 fills held out"):
        train_fill(feed.recording(), tmp_path / "fill", 1, "2026-01-02")
    with pytest.raises(ValueError, match="0 judged fills held out"):
        train_spread(feed.recording(), tmp_path / "spread", 1, "2026-01-02")
    assert not (tmp_path / "fill").exists()


def test_shipped_pair_is_served_by_this_build_within_its_ranges() -> None:
    """`models/` of the checkout: right layout, right bytes, and no row of a plain market out of
    range."""
    world = SmallDecision()
    ids = world.catalog.option_ids("BTC")
    rows = world.features.build("BTC", ids, world.market, world.theo, chain_world.NOW)
    for kind in ("fill", "spread"):
        model = LoadedModel(Path(__file__).parents[2] / "models" / kind, LAYOUT_HASH)
        assert (model.manifest.name, model.manifest.kind) == (kind, kind)
        served = model.session.run(rows)
        for column, stated in enumerate(model.manifest.outputs):
            found = served[:, column]
            assert np.all((stated.low <= found) & (found <= stated.high)), (kind, stated.name)
