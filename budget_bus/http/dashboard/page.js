// The dashboard: asks the same REST interface and feeds as everybody else. Nothing is made into HTML from a text.

const $ = (id) => document.getElementById(id);
const FEED_ROWS = 50;
const state = { budgets: new Map(), outlook: new Map(), usage: [], alerts: new Map(), editing: null, pending: new Set() };

// ---- asking ---------------------------------------------------------------------------------------------------------

const key = () => sessionStorage.getItem("budget-key");

async function ask(path, options = {}) {
  const headers = { ...(options.body ? { "Content-Type": "application/json" } : {}) };
  if (key()) headers.Authorization = `Bearer ${key()}`;
  const response = await fetch(path, { ...options, headers });
  const answer = response.status === 204 ? null : await response.json();
  if (response.status === 401) {
    $("key-form").hidden = false;
    $("key-said").textContent = key() ? answer.detail : "";
  }
  if (!response.ok) {
    const fields = (answer.errors || []).map((error) => `${error.field}: ${error.message}`);
    throw new Error([answer.detail, ...fields].join("; "));
  }
  return answer;
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("budget-key", $("key").value.trim());
  $("key").value = "";
  $("key-form").hidden = true;
  refresh();
  listen();
});

// ---- showing --------------------------------------------------------------------------------------------------------

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function table(columns, rows, empty) {
  if (!rows.length) return element("p", { class: "quiet" }, empty);
  const cell = (tag, column, text) => element(tag, column.number ? { class: "number" } : {}, text);
  const head = element("tr", {}, ...columns.map((column) => cell("th", column, column.title)));
  const body = rows.map((row) => element("tr", {}, ...columns.map((column) => cell("td", column, column.of(row)))));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
}

const units = (budget) => (budget.unit === "cost" ? budget.currency : budget.unit);
const whole = (count) => Number(count).toLocaleString("en");
const time = (text) => new Date(text).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
// For the eye; what is exact stands in the title.
const amount = (text) => {
  const value = Number(text);
  const digits = value !== 0 && Math.abs(value) < 1 ? { maximumSignificantDigits: 4 } : { minimumFractionDigits: value % 1 ? 2 : 0, maximumFractionDigits: 2 };
  return value.toLocaleString("en", digits);
};

function scopeText(scope) {
  const listed = (rule) => [rule].flat().join(", ");
  const said = (rule) => (rule?.not ? `all but ${listed(rule.not)}` : rule !== null && typeof rule === "object" && !Array.isArray(rule) ? JSON.stringify(rule) : listed(rule));
  return Object.entries(scope || {}).map(([name, rule]) => `${name}: ${said(rule)}`).join("; ") || "everything";
}

function showSpent(reports) {
  const titles = { daily: "Today", weekly: "This week", monthly: "This month" };
  $("spent").replaceChildren(...reports.map((report) => element("div", { class: "tile", "data-period": report.period },
    element("span", { class: "quiet" }, titles[report.period]),
    element("b", { title: report.totals.cost }, `${amount(report.totals.cost)} ${report.currency}`),
    element("span", { class: "quiet" }, `${whole(report.totals.requests)} calls, ${whole(report.totals.total_tokens)} tokens`))));
}

const band = (forecast) => (forecast.low === null ? "at its present rate" : `(${amount(forecast.low)} to ${amount(forecast.high)})`);

function runsOut(outlook) {
  const between = outlook.runs_out_between;
  if (!between) return `runs out ${time(outlook.runs_out_at)}`;
  return `runs out ${time(outlook.runs_out_at)} (${time(between.earliest)} to ${between.latest ? time(between.latest) : "the window's end"})`;
}

function budgetCard(budget) {
  const limit = Number(budget.limit);
  const share = (name) => (limit > 0 ? (Number(budget[name]) / limit) * 100 : 0);
  const taken = share("spent") + share("held") + share("unconfirmed");
  const scale = taken > 100 ? 100 / taken : 1;
  const piece = (name) => {
    const made = element("i", { class: name, title: `${name} ${budget[name]}` });
    made.style.width = `${share(name) * scale}%`;
    return made;
  };
  const outlook = state.outlook.get(budget.budget_id);
  const lines = [`${amount(budget.spent)} spent, ${amount(budget.held)} held, ${amount(budget.unconfirmed)} unconfirmed of ${amount(budget.limit)} ${units(budget)} (${taken.toFixed(1)} %)`];
  if (outlook?.forecast) lines.push(`comes to ${amount(outlook.forecast.expected)} ${band(outlook.forecast)}`);
  const card = element("article", { class: "budget", "data-budget": budget.budget_id },
    element("div", { class: "name" },
      element("span", {}, element("b", {}, budget.name), ` · ${budget.period}, ${budget.policy}${budget.shadow ? ", shadow" : ""}`),
      element("button", { type: "button", "aria-label": `Change the limit ${budget.name}`, onclick: () => edit(budget) }, "Change")),
    element("div", { class: "bar", role: "img", "aria-label": lines[0] }, piece("spent"), piece("held"), piece("unconfirmed")),
    element("p", { class: taken >= 100 ? "over" : "", title: `${budget.spent} spent, ${budget.held} held, ${budget.unconfirmed} unconfirmed of ${budget.limit}` }, lines[0]),
    lines[1] ? element("p", { class: "quiet" }, lines[1]) : null,
    outlook?.runs_out_at ? element("p", { class: "over" }, runsOut(outlook)) : null,
    element("p", { class: "quiet" }, `${scopeText(budget.scope)}${budget.window_end ? ` · until ${time(budget.window_end)}` : ""}`));
  return card;
}

function showBudgets() {
  const focused = document.activeElement?.getAttribute("aria-label");
  const cards = [...state.budgets.values()].map(budgetCard);
  $("budgets").replaceChildren(...(cards.length ? cards : [element("p", { class: "quiet" }, "No limits yet: make one, or run `budget set-limit daily 10.0`.")]));
  if (focused) [...$("budgets").querySelectorAll("button")].find((one) => one.getAttribute("aria-label") === focused)?.focus();
}

function showSummary(report, dimension) {
  state.outlook = new Map(report.budgets.map((budget) => [budget.budget_id, budget]));
  const columns = [
    { title: dimension, of: (row) => row.key[dimension] ?? "none" },
    { title: `Cost (${report.currency})`, number: true, of: (row) => row.cost },
    { title: "Calls", number: true, of: (row) => whole(row.requests) },
    { title: "Tokens", number: true, of: (row) => whole(row.total_tokens) },
  ];
  const ranked = [...report.groups].sort((a, b) => Number(b.cost) - Number(a.cost));
  $("top").replaceChildren(table(columns, ranked.slice(0, 20), "Nothing was recorded in this time."));
  draw(report, dimension, ranked);
  showOpen(report);
}

function draw(report, dimension, ranked) {
  if (!window.Plotly) { state.redraw = () => draw(report, dimension, ranked); return; }
  state.redraw = () => draw(report, dimension, ranked);
  const style = getComputedStyle(document.body);
  const kept = ranked.slice(0, 11).map((group) => group.key[dimension]);
  const starts = report.series.map((step) => new Date(step.start));
  const of = (step, wanted) => step.groups.filter(wanted).reduce((sum, group) => sum + Number(group.cost), 0);
  const traces = kept.map((value) => ({
    type: "bar", name: value ?? "none", x: starts, y: report.series.map((step) => of(step, (group) => group.key[dimension] === value)),
  }));
  if (ranked.length > kept.length) {
    traces.push({ type: "bar", name: "others", x: starts, y: report.series.map((step) => of(step, (group) => !kept.includes(group.key[dimension]))) });
  }
  // The property itself is an expression that only a style can resolve.
  const line = getComputedStyle(document.querySelector("main > section")).borderTopColor;
  const axis = { gridcolor: line, zerolinecolor: line };
  const layout = {
    barmode: "stack", margin: { l: 56, r: 8, t: 8, b: 36 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: style.color }, xaxis: axis, yaxis: { ...axis, title: { text: report.currency } }, showlegend: true,
    legend: { orientation: "h" },
  };
  window.Plotly.react("chart", traces, layout, { responsive: true, displayModeBar: false });
}

function showOpen(report) {
  state.report = report;
  const lines = [
    report.unpriced.requests ? `${whole(report.unpriced.requests)} calls of models without a price (${whole(report.unpriced.total_tokens)} tokens): their cost is in no sum.` : null,
    report.unconfirmed_holds ? `${whole(report.unconfirmed_holds)} holds are unconfirmed, ${report.unconfirmed} ${report.currency}: nothing was heard of their calls.` : null,
  ].filter(Boolean);
  const parts = lines.length ? lines.map((line) => element("p", { class: "over" }, line)) : [element("p", { class: "ok" }, "Everything has a price, and every call was heard of.")];
  for (const one of report.anomalies) parts.push(element("p", { class: "over" }, `${one.reason}, seen `, element("span", { class: "quiet" }, time(one.at))));
  for (const one of state.integrations || []) {
    for (const finding of one.findings) parts.push(element("p", { class: "quiet" }, `${one.component}: ${finding}`));
  }
  $("open").replaceChildren(...parts);
}

function showAlerts() {
  const rows = [...state.alerts.values()].sort((a, b) => b.raised_at.localeCompare(a.raised_at)).map((alert) =>
    element("div", { class: `alert ${alert.severity}` },
      element("span", {}, element("b", {}, alert.severity), ` ${alert.message} `, element("span", { class: "quiet" }, time(alert.raised_at))),
      element("button", { type: "button", "aria-label": `Acknowledge: ${alert.message}`, onclick: () => acknowledge(alert) }, "Acknowledge")));
  $("alerts").replaceChildren(...(rows.length ? rows : [element("p", { class: "ok" }, "No open alerts.")]));
}

async function acknowledge(alert) {
  try {
    await ask(`/api/alerts/${alert.alert_id}/acknowledge`, { method: "POST" });
    state.alerts.delete(alert.alert_id);
    showAlerts();
  } catch (error) {
    $("health").textContent = error.message;
  }
}

function showUsage() {
  const columns = [
    { title: "When", of: (event) => new Date(event.occurred_at).toLocaleTimeString() },
    { title: "Component", of: (event) => event.component },
    { title: "Model", of: (event) => `${event.provider}/${event.model}` },
    { title: "Tokens", number: true, of: (event) => whole((event.input_tokens || 0) + (event.output_tokens || 0)) },
    { title: "Cost", number: true, of: (event) => (event.cost == null ? "unpriced" : `${event.cost} ${event.currency}`) },
  ];
  $("live").replaceChildren(table(columns, state.usage, "Waiting for calls."));
}

function showStatus(status) {
  const away = [status.database.ok ? null : "the database is away", status.broker.ok ? null : "the broker is away", status.stale ? "decisions are made on old numbers" : null].filter(Boolean);
  $("health").textContent = away.length ? away.join("; ") : `all well · budget_bus ${status.version}`;
  $("health").className = away.length ? "over" : "ok";
  const columns = [
    { title: "Topic", of: (row) => row.topic },
    { title: "Messages behind", number: true, of: (row) => (row.lag_messages == null ? "unknown" : whole(row.lag_messages)) },
    { title: "Seconds behind", number: true, of: (row) => (row.lag_s == null ? "unknown" : row.lag_s) },
  ];
  const holds = status.holds ? `${status.holds.open} holds open, ${status.holds.unconfirmed} unconfirmed` : "holds unknown";
  $("system").replaceChildren(
    element("p", { class: "quiet" }, `PostgreSQL ${status.database.version ?? "away"} · ${status.broker.kind} at ${status.broker.bootstrap_servers} · ${holds}`),
    table(columns, status.topics, "No topics."));
}

// ---- limits and what if ---------------------------------------------------------------------------------------------

async function edit(budget) {
  state.editing = { budget, past: [] };
  const form = $("limit-form");
  form.reset();
  $("limit-said").textContent = "";
  $("limit-new").hidden = budget !== null;
  $("limit-slide").hidden = budget === null || budget.parent !== null;
  $("limit-title").textContent = budget ? `Limit of ${budget.name}` : "New limit";
  $("limit-unit").textContent = budget ? units(budget) : "";
  form.limit.value = budget ? budget.limit : "";
  if (budget) {
    const most = Math.max(Number(budget.limit), Number(budget.spent) + Number(budget.held) + Number(budget.unconfirmed)) * 3 || 100;
    const step = budget.unit === "cost" ? 10 ** Math.floor(Math.log10(most) - 3) : 1;
    Object.assign(form.slider, { min: 0, max: most, step, value: Number(budget.limit) });
  }
  $("limit-dialog").showModal();
  form.limit.focus();
  whatIf();
  if (budget && budget.period !== "total") {
    try {
      const page = await ask(`/api/limits/${budget.budget_id}/windows?page_size=100`);
      if (state.editing?.budget === budget) state.editing.past = page.items.filter((one) => one.window_end && one.window_end <= budget.as_of);
      whatIf();
    } catch (error) {
      $("limit-said").textContent = error.message;
    }
  }
}

function whatIf() {
  const { budget, past } = state.editing || {};
  const limit = Number($("limit-form").limit.value);
  if (!budget || !(limit >= 0)) { $("limit-what-if").textContent = ""; return; }
  const taken = Number(budget.spent) + Number(budget.held) + Number(budget.unconfirmed);
  const said = [limit > 0 ? `${((taken / limit) * 100).toFixed(1)} % of it would be taken now` : "nothing would be left"];
  const outlook = state.outlook.get(budget.budget_id);
  if (outlook?.forecast) said.push(taken + Number(outlook.forecast.expected) - Number(budget.spent) > limit ? "at the present rate it would run out before the window ends" : "at the present rate it would last");
  if (past?.length) {
    const passed = past.filter((one) => Number(one.spent) > limit).length;
    said.push(`${passed} of the last ${past.length} windows spent more`);
  }
  $("limit-what-if").textContent = `${said.join("; ")}.`;
}

$("limit-form").slider.addEventListener("input", (event) => { $("limit-form").limit.value = event.target.value; whatIf(); });
$("limit-form").limit.addEventListener("input", (event) => { $("limit-form").slider.value = event.target.value; whatIf(); });
$("limit-cancel").addEventListener("click", () => $("limit-dialog").close());
$("new-limit").addEventListener("click", () => edit(null));
$("limit-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const { budget } = state.editing;
  try {
    if (budget) {
      await ask(`/api/limits/${budget.budget_id}`, { method: "PATCH", body: JSON.stringify({ limit: form.limit.value }) });
    } else {
      const scope = form.component.value.trim() ? { component: form.component.value.trim() } : {};
      const body = { period: form.period.value, unit: form.unit.value, limit: form.limit.value, scope };
      await ask("/api/limits", { method: "POST", body: JSON.stringify(form.policy.value ? { ...body, policy: form.policy.value } : body) });
    }
    $("limit-dialog").close();
    await refresh();
  } catch (error) {
    $("limit-said").textContent = error.message;
  }
});

// ---- keeping up -----------------------------------------------------------------------------------------------------

const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

async function numbers() {
  const [spent, limits] = await Promise.all([
    Promise.all(["daily", "weekly", "monthly"].map((period) => ask(`/api/usage/${period}`))),
    ask("/api/limits?page_size=1000"),
  ]);
  showSpent(spent);
  state.budgets = new Map(limits.items.map((budget) => [budget.budget_id, budget]));
  showBudgets();
}

async function overTime() {
  const [dimension, days] = [chosen("dimension"), Number(chosen("span"))];
  const start = new Date();
  // Whole steps: 24 hours, or days from midnight on.
  if (days === 1) start.setHours(start.getHours() - 23, 0, 0, 0);
  else { start.setHours(0, 0, 0, 0); start.setDate(start.getDate() - days + 1); }
  const query = new URLSearchParams({
    start: start.toISOString(), timezone: Intl.DateTimeFormat().resolvedOptions().timeZone, period: days === 1 ? "hourly" : "daily", group_by: dimension,
  });
  const report = await ask(`/api/reports/summary?${query}`);
  showSummary(report, dimension);
  showBudgets();
}

const status = async () => showStatus(await ask("/api/status"));

async function alerts() {
  const page = await ask("/api/alerts?acknowledged=false");
  state.alerts = new Map(page.items.map((alert) => [alert.alert_id, alert]));
  showAlerts();
}

async function integrations() {
  state.integrations = (await ask("/api/integrations")).items;
  if (state.report) showOpen(state.report);
}

// A part that is asked for while it is being asked for is asked for once more afterwards, and not more often.
async function keep(part) {
  if (part.running) { part.again = true; return; }
  part.running = true;
  try {
    await part();
  } catch (error) {
    $("health").textContent = error.message;
    $("health").className = "over";
  }
  part.running = false;
  if (part.again) { part.again = false; setTimeout(() => keep(part), 300); }
}

const refresh = () => Promise.all([numbers, overTime, status, alerts].map(keep));

function listen() {
  for (const socket of state.sockets || []) { socket.onclose = null; socket.close(); }
  state.sockets = ["/ws", "/ws/alerts"].map((path) => {
    const url = new URL(path, location.href.replace(/^http/, "ws"));
    const socket = key() ? new WebSocket(url, ["budget.v1", `bearer.${key()}`]) : new WebSocket(url, ["budget.v1"]);
    socket.onmessage = (event) => take(JSON.parse(event.data));
    socket.onclose = () => { clearTimeout(state.reconnect); state.reconnect = setTimeout(() => { refresh(); listen(); }, 3000); };
    return socket;
  });
}

function take({ type, payload }) {
  if (type === "usage") {
    state.usage = [payload, ...state.usage].slice(0, FEED_ROWS);
    showUsage();
    keep(numbers);
    keep(overTime);
  } else if (type === "balance") {
    const known = state.budgets.get(payload.budget_id);
    if (!known || known.window_start !== payload.window_start) { keep(numbers); return; }
    Object.assign(known, { limit: payload.limit, spent: payload.spent, held: payload.held, available: payload.available });
    showBudgets();
  } else if (type === "limit") {
    keep(numbers);
  } else if (type === "alert") {
    state.alerts.set(payload.alert_id, payload);
    showAlerts();
  }
}

// ---- starting -------------------------------------------------------------------------------------------------------

$("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark" || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("budget-theme", document.documentElement.dataset.theme);
  state.redraw?.();
});
if (localStorage.getItem("budget-theme")) document.documentElement.dataset.theme = localStorage.getItem("budget-theme");
for (const name of ["dimension", "span"]) $(name).addEventListener("change", () => keep(overTime));
document.querySelector('script[src$="plotly.js"]').addEventListener("load", () => state.redraw?.());

showUsage();
showAlerts();
refresh();
keep(integrations);
listen();
setInterval(() => keep(status), 5000);
setInterval(() => { keep(numbers); keep(alerts); }, 15000);
setInterval(() => { keep(overTime); keep(integrations); }, 60000);
