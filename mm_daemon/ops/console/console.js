// Read-only console: one event stream and three polls. It says how old what it shows is, dims what
// is stale, and never acts: acting is the command line's and the control API's.
"use strict";
const STALE_MS = 2500;
const POLLS_MS = { quotes: 1000, hedges: 2000, surface: 5000 };
const seenMs = { stream: 0, quotes: 0 };
const latest = {};

const byId = (id) => document.getElementById(id);
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
/** A number with exactly `digits` decimals, so that a column's points stand below each other. */
const fixed = (value, digits) => {
  if (!isNumber(value)) return "–";
  const text = value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return /^-[0.,]*$/.test(text) ? text.slice(1) : text;
};
const signed = (value, digits) => {
  const text = fixed(value, digits);
  return isNumber(value) && value > 0 && /[1-9]/.test(text) ? `+${text}` : text;
};
const percent = (value, digits = 1) => (isNumber(value) ? `${fixed(value * 100, digits)} %` : "–");

/** One cell: text, or {text, kind, why}: a class and what hovering it says. */
function cell(tag, content) {
  const element = document.createElement(tag);
  const { text = "", kind = "", why = "", span = 0, unit = "" } = typeof content === "object" ? content : { text: content };
  element.textContent = text;
  if (unit) element.append(Object.assign(document.createElement("small"), { textContent: unit }));
  if (kind) element.className = kind;
  if (why) element.title = why;
  if (span) element.colSpan = span;
  return element;
}

function row(tag, cells, kind = "") {
  const element = document.createElement("tr");
  element.append(...cells.map((content) => cell(tag, content)));
  if (kind) element.className = kind;
  return element;
}

const head = (id, ...rows) => byId(id).tHead.replaceChildren(...rows.map((cells) => row("th", cells)));
const body = (id, rows) => byId(id).tBodies[0].replaceChildren(...rows);

// -- state ------------------------------------------------------------------------------------------

function showHeader(status) {
  const mayQuote = (status.permission || []).includes("quote");
  const reasons = status.reasons_not_quoting || [];
  const isQuoting = mayQuote && status.trader === "running" && reasons.length === 0;
  const latched = Object.entries(status.latched_by || {}).map(([who, why]) => `${who}: ${why}`);
  byId("environment").textContent = status.environment || "–";
  byId("mode").textContent = isQuoting ? "quoting" : mayQuote ? "not quoting" : "latched";
  byId("mode").className = `badge ${isQuoting ? "good" : mayQuote ? "warn" : "bad"}`;
  byId("why").textContent = [...latched, ...reasons].join("; ");
  document.querySelector("header").classList.toggle("prod", status.environment === "prod");
}

function showState(status) {
  const sessions = Object.entries(status.sessions || {}).map(([name, phase]) => `${name} ${phase}`).join(", ");
  const rows = [
    ["trader", status.trader], ["session", status.session], ["up", isNumber(status.uptime_s) ? `${fixed(status.uptime_s, 0)} s` : null],
    ["permission", (status.permission || []).join(", ") || "none"], ["latch generation", fixed(status.generation, 0)],
    ["connections", sessions], ["reconciled", status.is_reconciled === undefined ? null : status.is_reconciled ? "yes" : "no"],
    ["two-sided options", `${fixed(status.options_two_sided, 0)} of ${fixed(status.options_listed, 0)}`],
    ["quote sides / orders live", `${fixed(status.quotes_live, 0)} / ${fixed(status.orders_live, 0)}`],
    ["orders of unknown outcome", fixed(status.unknown_orders, 0)], ["fills", fixed(status.fills, 0)],
    ["equity", isNumber(status.equity_usd) ? `${fixed(status.equity_usd, 0)} USD` : null],
    ["build", [status.build?.version, status.build?.commit?.slice(0, 12)].filter(Boolean).join(" ")],
  ];
  byId("state").replaceChildren(...rows.flatMap(([name, value]) => [cell("dt", name), cell("dd", String(value || "–"))]));
}

// -- risk and money ---------------------------------------------------------------------------------

function showGreeks(greeks) {
  const hedges = Object.fromEntries((latest.hedges?.hedges || []).map((hedge) => [hedge.underlying, hedge]));
  head("greeks", ["", { text: "delta", unit: "coin" }, { text: "band ±", unit: "coin" }, { text: "gamma", unit: "USD / 1 %" }, { text: "vega", unit: "USD / vp" },
    { text: "theta", unit: "USD / day" }, { text: "hedges", unit: "sent" }, { text: "slippage", unit: "bps" }]);
  body("greeks", Object.entries(greeks?.underlyings || {}).map(([name, g]) => row("td", [
    name,
    { text: signed(g.delta_coin, 3), kind: Math.abs(g.delta_coin) > g.delta_band_coin ? "warn" : "good" },
    fixed(g.delta_band_coin, 3), signed(g.gamma_usd, 0), signed(g.vega_usd, 0), signed(g.theta_usd_day, 0),
    { text: fixed(hedges[name]?.hedges, 0), why: hedges[name]?.state || "" }, signed(hedges[name]?.slippage_bps, 2),
  ])));
}

function showLimits(greeks) {
  const underlyings = Object.entries(greeks?.underlyings || {});
  const names = [...new Set(underlyings.flatMap(([, g]) => Object.keys(g.limit_use || {})))];
  head("limits", ["", ...names]);
  body("limits", underlyings.map(([name, g]) => row("td", [name, ...names.map((limit) => {
    const use = g.limit_use[limit];
    return { text: percent(use, 0), kind: use > 0.9 ? "bad" : use > 0.7 ? "warn" : "" };
  })])));
}

/** The part that the coin balance gains with the coin itself: nothing the desk did. */
const COLLATERAL = "collateral";

function showPnl(pnl) {
  const parts = pnl?.parts_usd || {};
  const names = Object.keys(parts);
  const keys = [...new Set(names.flatMap((name) => Object.keys(parts[name])))];
  head("pnl", ["part", ...names]);
  const total = (name, without) => keys.reduce((sum, key) => sum + (key === without ? 0 : parts[name][key]), 0);
  const sums = (title, without) => row("td", [title, ...names.map((name) => {
    const value = total(name, without);
    return { text: signed(value, 0), kind: value < 0 ? "bad" : "good" };
  })], "total");
  const rows = keys.map((key) => row("td", [key.replaceAll("_", " "), ...names.map((name) => signed(parts[name][key], 0))]));
  rows.push(sums("without collateral", COLLATERAL), sums("total", ""));
  body("pnl", names.length ? rows : []);
}

function showSurface(surface) {
  head("surface", ["expiry", { text: "tenor", unit: "days" }, { text: "forward", unit: "USD" }, "from", { text: "at the money" }, { text: "rms", unit: "vol points" }]);
  const rows = [];
  for (const [name, slices] of Object.entries(surface?.underlyings || {})) {
    const age = surface.age_s?.[name];
    rows.push(row("td", [{ text: `${name}: fit ${fixed(age, 0)} s old, ${fixed(surface.fits_accepted?.[name], 0)} accepted, ${fixed(surface.fits_refused?.[name], 0)} refused`,
      kind: age > 60 ? "warn" : "muted", why: surface.last_refusal?.[name] || "", span: 6 }]));
    for (const s of slices) {
      rows.push(row("td", [s.expiry, fixed(s.tte_days, 1), fixed(s.forward, 1), s.forward_source, percent(s.atm_vol, 1), { text: fixed(s.rms_vp, 2), kind: s.rms_vp > 2 ? "warn" : "" }]));
    }
  }
  body("surface", rows);
}

// -- quotes: calls, strike, puts ----------------------------------------------------------------------

const SIDE_HEADS = ["position", "delta", "own bid", "bid", "theo", "ask", "own ask"];

/** The instruments of one quotes view by expiry, each as {strike: {C: index, P: index}}. */
function chains(quotes) {
  const found = new Map();
  quotes.instrument.forEach((name, index) => {
    const parts = name.split("-");
    const right = parts.pop(), strike = Number(parts.pop().replace("d", "."));
    const expiry = parts.join("-");
    if (!found.has(expiry)) found.set(expiry, new Map());
    const strikes = found.get(expiry);
    strikes.set(strike, { ...strikes.get(strike), [right]: index });
  });
  return found;
}

const isTwoSided = (quotes, i) => quotes.bid[i] > 0 && quotes.ask[i] > 0;

function fillExpiries(quotes, found) {
  const select = byId("expiry");
  const counts = [...found].map(([name, strikes]) => {
    const ids = [...strikes.values()].flatMap((pair) => Object.values(pair));
    return [name, ids.filter((i) => isTwoSided(quotes, i)).length, ids.length];
  });
  if (select.options.length !== counts.length) {
    const chosen = select.value || counts.find(([, quoted, all]) => quoted > all / 2)?.[0];
    select.replaceChildren(...counts.map(([name]) => new Option(name, name)));
    if (found.has(chosen)) select.value = chosen;
  }
  counts.forEach(([name, quoted, all], i) => { select.options[i].textContent = `${name}  (${quoted} of ${all} two-sided)`; });
}

function own(quotes, side, i, digits) {
  const price = quotes[side][i];
  if (!(price > 0)) return { text: "–", kind: "muted", why: quotes[`why_no_${side}`][i] };
  const isTouch = price === quotes[`${side}_market`][i];
  return { text: `${fixed(price, digits)} × ${fixed(quotes[`${side}_amount`][i], 1)}`, kind: isTouch ? "touch" : "" };
}

function sideCells(quotes, i, digits) {
  if (i === undefined) return SIDE_HEADS.map(() => "");
  const market = (side) => (quotes[side][i] > 0 ? fixed(quotes[side][i], digits) : { text: "–", kind: "muted" });
  const position = quotes.position[i];
  return [
    { text: position ? signed(position, 1) : "", kind: position > 0 ? "good" : "bad" },
    { text: fixed(quotes.delta[i], 3), kind: "muted" },
    own(quotes, "bid", i, digits), market("bid_market"), { text: fixed(quotes.theo[i], digits + 1), why: `lean ${fixed(quotes.lean[i], digits + 2)}` },
    market("ask_market"), own(quotes, "ask", i, digits),
  ];
}

function showQuotes(quotes) {
  const found = chains(quotes);
  fillExpiries(quotes, found);
  const expiry = byId("expiry").value;
  const isCoin = !expiry.includes("_");
  const digits = isCoin ? 4 : 1;
  byId("unit").textContent = isCoin ? "coin" : "USD";
  head("quotes", [{ text: "calls", span: SIDE_HEADS.length }, { text: "", span: 2 }, { text: "puts", span: SIDE_HEADS.length }],
    [...SIDE_HEADS, { text: "strike", kind: "strike" }, "vol", ...SIDE_HEADS]);
  const strikes = [...(found.get(expiry) || [])].sort(([a], [b]) => a - b);
  const atMoney = strikes.findIndex(([, pair]) => quotes.delta[pair.C] < 0.5);
  body("quotes", strikes.map(([strike, pair], position) => row("td", [
    ...sideCells(quotes, pair.C, digits), { text: fixed(strike, Number.isInteger(strike) ? 0 : 3), kind: "strike" },
    percent(quotes.vol[pair.C ?? pair.P]), ...sideCells(quotes, pair.P, digits),
  ], position === atMoney ? "money" : "")));
}

// -- fetching -----------------------------------------------------------------------------------------

async function poll(name, show) {
  try {
    const response = await fetch(`/v1/${name}`);
    if (response.ok) {
      latest[name] = await response.json();
      seenMs[name] = Date.now();
      show(latest[name]);
    }
  } catch { /* the ages in the header and beside the quotes tell it */ }
  setTimeout(poll, POLLS_MS[name], name, show);
}

function showAges() {
  const ageMs = Date.now() - seenMs.stream;
  const isStale = ageMs > STALE_MS;
  document.body.classList.toggle("stale", isStale);
  document.querySelector("header").classList.toggle("stale", isStale);
  byId("freshness").textContent = seenMs.stream === 0 ? "connecting …" : isStale ? `STALE: ${fixed(ageMs / 1000, 0)} s old` : "live";
  const quotesMs = Date.now() - seenMs.quotes;
  const areStale = seenMs.quotes > 0 && quotesMs > STALE_MS;
  byId("quotes-age").textContent = areStale ? `STALE: ${fixed(quotesMs / 1000, 0)} s old` : "";
  byId("quotes-age").className = areStale ? "bad" : "";
  byId("quotes").classList.toggle("muted", areStale);
}

new EventSource("/v1/stream").onmessage = (message) => {
  const snapshot = JSON.parse(message.data);
  seenMs.stream = Date.now();
  showHeader(snapshot.status);
  showState(snapshot.status);
  showGreeks(snapshot.greeks);
  showLimits(snapshot.greeks);
  showPnl(snapshot.pnl);
  showAges();
};
byId("expiry").addEventListener("change", () => { if (latest.quotes) showQuotes(latest.quotes); });
setInterval(showAges, 500);
poll("quotes", showQuotes);
poll("hedges", () => {});
poll("surface", showSurface);
