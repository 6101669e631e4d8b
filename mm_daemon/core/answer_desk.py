"""What comes back from slow work and from the trader's hand: surfaces, factors, models, knobs.

Each answer is judged by the component that asked; what is refused changes nothing, is counted and
is said. What is taken makes the quotes look again.
"""

from __future__ import annotations

from mm_daemon.core.quote_desk import QuoteDesk
from mm_daemon.core.state import EngineState
from mm_daemon.domain.errors import InvariantError
from mm_daemon.domain.inputs import (
    FactorsAnswer,
    FitAnswer,
    InferenceAnswer,
    Input,
    TraderKnob,
)
from mm_daemon.domain.units import Ns


class AnswerDesk:
    """Takes answers and settings into the state."""

    def __init__(self, state: EngineState, quotes: QuoteDesk) -> None:
        self._s = state
        self._quotes = quotes

    def on_input(self, event: Input, now_ns: Ns) -> None:
        if isinstance(event, FitAnswer):
            self._on_fit(event, now_ns)
        elif isinstance(event, FactorsAnswer):
            self._on_factors(event, now_ns)
        elif isinstance(event, InferenceAnswer):
            self._on_inference(event, now_ns)
        elif isinstance(event, TraderKnob):
            self._on_knob(event)
        else:
            raise InvariantError(f"no desk takes {type(event).__name__}")

    def _on_fit(self, event: FitAnswer, now_ns: Ns) -> None:
        s, name = self._s, event.underlying
        verdict = s.calibrator.on_answer(event, now_ns)
        outcome = "failed" if event.error else "accepted" if verdict.accepted else "refused"
        s.metrics.add("mm_surface_fits_total", underlying=name, verdict=outcome)
        if outcome == "accepted":
            s.fits_accepted[name] = s.fits_accepted.get(name, 0) + 1
            self._quotes.take_surface()
        else:
            reason = event.error or verdict.reason.value
            s.outbox.log("warning", "fit_refused", underlying=name, reason=reason)
        self._quotes.invalidate(name)

    def _on_factors(self, event: FactorsAnswer, now_ns: Ns) -> None:
        s = self._s
        reason = s.skew.on_answer(event, now_ns)
        if reason:
            s.outbox.log("warning", "factors_refused", underlying=event.underlying, why=reason)
        self._quotes.relean(event.underlying)

    def _on_inference(self, event: InferenceAnswer, now_ns: Ns) -> None:
        s = self._s
        refused = s.intensity.on_answer(event, now_ns)
        if refused is not None:
            s.outbox.log("warning", "model_fallback", model=event.model, reason=refused.value)

    def _on_knob(self, event: TraderKnob) -> None:
        s = self._s
        refusal = s.knobs.set(event, s.catalog)
        if refusal is None:
            s.apply_settings()
            self._quotes.invalidate()
        else:
            s.metrics.add("mm_risk_refusals_total", control="C29")
        s.outbox.log(
            "info",
            "knob",
            name=event.name,
            value=event.value,
            actor=event.actor,
            outcome=refusal.value if refusal else "in force",
        )
