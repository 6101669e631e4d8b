// Read-only console: one event stream, one poll of the quotes; shows how old what it shows is.
"use strict";
const STALE_MS = 2500;
const QUOTES_MS = 1000;
let lastEventMs = 0;

const byId = (id) => document.getElementById(id);
const number = (value, digits = 2) =>
  value === null || value === undefined || Number.isNaN(value) ? "–" : value.toLocaleString("en-US", { maximumFractionDigits: digits });
const signed = (value, digits = 2) => (value > 0 ? "+" : "") + number(value, digits);

function fill(body, rows) {
  body.replaceChildren(...rows.map((cells) => {
    const row = document.createElement("tr");
    row.append(...cells.map((text) => { const cell = document.createElement("td"); cell.textContent = text; return cell; }));
    return row;
  }));
}

function showState(status) {
  const list = byId("state");
  const rows = [
    ["trader", status.trader], ["permission", (status.permission || []).join(", ") || "none: latched"],
    ["latched by", Object.entries(status.latched_by || {}).map(([who, why]) => `${who}: ${why}`).join("; ") || "–"],
    ["reconciled", status.is_reconciled], ["options quoted two-sided", `${number(status.options_two_sided, 0)} of ${number(status.options_listed, 0)}`],
    ["quotes / orders live", `${number(status.quotes_live, 0)} / ${number(status.orders_live, 0)}`],
    ["unknown orders", number(status.unknown_orders, 0)], ["fills", number(status.fills, 0)],
    ["equity (USD)", number(status.equity_usd, 0)],
    ["not quoting because", (status.reasons_not_quoting || []).join("; ") || "–"], ["generation", status.generation],
  ];
  list.replaceChildren(...rows.flatMap(([name, value]) => {
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name; text.textContent = String(value ?? "–");
    return [term, text];
  }));
  byId("environment").textContent = status.environment ? `· ${status.environment.toUpperCase()}` : "";
  document.querySelector("header").classList.toggle("prod", status.environment === "prod");
}

function showGreeks(greeks) {
  const rows = Object.entries(greeks?.underlyings || {}).map(([name, g]) =>
    [name, signed(g.delta_coin, 3), number(g.delta_band_coin, 3), signed(g.gamma_usd, 0), signed(g.vega_usd, 0), signed(g.theta_usd_day, 0)]);
  fill(byId("greeks").tBodies[0], rows);
}

function showPnl(pnl) {
  const parts = pnl?.parts_usd || {};
  const names = Object.keys(parts);
  const head = document.createElement("tr");
  head.append(...["part", ...names].map((text) => { const cell = document.createElement("th"); cell.textContent = text; return cell; }));
  byId("pnl").tHead.replaceChildren(head);
  const keys = names.length ? Object.keys(parts[names[0]]) : [];
  const rows = keys.map((key) => [key, ...names.map((name) => signed(parts[name][key], 0))]);
  rows.push(["total", ...names.map((name) => signed(pnl?.total_usd?.[name], 0))]);
  fill(byId("pnl").tBodies[0], rows);
}

function showQuotes(quotes) {
  const expiryOf = (name) => name.split("-").slice(0, 2).join("-");
  const select = byId("expiry");
  const expiries = [...new Set(quotes.instrument.map(expiryOf))];
  if (select.options.length !== expiries.length) {
    const chosen = select.value;
    select.replaceChildren(...expiries.map((name) => new Option(name, name)));
    if (expiries.includes(chosen)) select.value = chosen;
  }
  const price = (value) => (value > 0 ? value.toFixed(4) : "–");
  const rows = [];
  quotes.instrument.forEach((name, i) => {
    if (expiryOf(name) !== select.value) return;
    const size = (side, amount) => (side > 0 ? `${price(side)} × ${number(amount, 1)}` : "–");
    const why = [quotes.why_no_bid[i] && `bid: ${quotes.why_no_bid[i]}`, quotes.why_no_ask[i] && `ask: ${quotes.why_no_ask[i]}`].filter(Boolean).join(", ");
    rows.push([name, signed(quotes.position[i], 1), size(quotes.bid[i], quotes.bid_amount[i]), price(quotes.bid_market[i]),
      quotes.theo[i] === null ? "–" : quotes.theo[i].toFixed(5), price(quotes.ask_market[i]), size(quotes.ask[i], quotes.ask_amount[i]),
      quotes.vol[i] === null ? "–" : `${(quotes.vol[i] * 100).toFixed(1)} %`, number(quotes.delta[i], 3), why]);
  });
  fill(byId("quotes").tBodies[0], rows);
}

async function pollQuotes() {
  try {
    const response = await fetch("/v1/quotes");
    if (response.ok) showQuotes(await response.json());
  } catch { /* the freshness line says how old the picture is */ }
  setTimeout(pollQuotes, QUOTES_MS);
}

setInterval(() => {
  const ageMs = Date.now() - lastEventMs;
  const isStale = ageMs > STALE_MS;
  document.querySelector("header").classList.toggle("stale", isStale);
  byId("freshness").textContent = lastEventMs === 0 ? "connecting …" : isStale ? `STALE: ${Math.round(ageMs / 1000)} s old` : "live";
}, 500);

new EventSource("/v1/stream").onmessage = (message) => {
  const snapshot = JSON.parse(message.data);
  lastEventMs = Date.now();
  showState(snapshot.status);
  showGreeks(snapshot.greeks);
  showPnl(snapshot.pnl);
};
pollQuotes();
