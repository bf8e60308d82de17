// Draws the charts of a report that stands in the page. Names become texts, never HTML.

const report = JSON.parse(document.getElementById("report").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const MOST = 12; // series in one chart; the rest is summed up as others

// Plotly reads a few tags in labels; an escaped name stays what it is.
const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const short = (text) => (text.length > 40 ? `${text.slice(0, 39)}…` : text);
const named = (key) => plain(short(Object.values(key).map((value) => value ?? "(none)").join(" / ")));
const starts = report.series.map((step) => step.start);

function layout(more) {
  const style = getComputedStyle(document.documentElement);
  const ink = dark.matches ? "#e8ebef" : "#1b2027";
  const line = dark.matches ? "#333b46" : "#d8dde3";
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: line };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, family: style.fontFamily },
    margin: { t: 10, r: 50, b: 40, l: 60 }, legend: { orientation: "h", y: -0.2 }, ...more,
    xaxis: { ...axis, ...more.xaxis }, yaxis: { ...axis, rangemode: "tozero", ...more.yaxis },
    ...(more.yaxis2 ? { yaxis2: { ...axis, showgrid: false, rangemode: "tozero", ...more.yaxis2 } } : {}),
  };
}

function costs() {
  if (!report.groups.length) return [{ type: "bar", name: "cost", x: starts, y: report.series.map((step) => Number(step.cost)) }];
  const ranked = [...report.groups].sort((a, b) => Number(b.cost) - Number(a.cost)).map((group) => JSON.stringify(group.key));
  const kept = ranked.length > MOST ? ranked.slice(0, MOST - 1) : ranked;
  const rows = new Map(kept.map((key) => [key, starts.map(() => 0)]));
  if (kept.length < ranked.length) rows.set("", starts.map(() => 0));
  report.series.forEach((step, number) => step.groups.forEach((group) => {
    (rows.get(JSON.stringify(group.key)) ?? rows.get(""))[number] += Number(group.cost);
  }));
  return [...rows].map(([key, y]) => ({ type: "bar", name: key ? named(JSON.parse(key)) : "others", x: starts, y }));
}

function use() {
  const line = (name, of, more = {}) => ({ type: "scatter", mode: "lines", name, x: starts, y: report.series.map(of), ...more });
  return [
    line("input tokens", (step) => step.input_tokens, { stackgroup: "tokens" }),
    line("output tokens", (step) => step.output_tokens, { stackgroup: "tokens" }),
    line("requests", (step) => step.requests, { yaxis: "y2", line: { dash: "dot" } }),
  ];
}

function spenders() {
  const dimensions = [...new Set(report.top.map((one) => one.dimension))];
  return dimensions.map((dimension) => {
    const rows = report.top.filter((one) => one.dimension === dimension).reverse();
    return {
      type: "bar", orientation: "h", name: plain(dimension), x: rows.map((one) => Number(one.cost)),
      y: rows.map((one) => plain(short(`${one.value ?? "(none)"} (${dimension})`))),
    };
  });
}

function draw() {
  const options = { responsive: true, displayModeBar: false };
  const money = { title: { text: report.currency } };
  Plotly.react("cost", costs(), layout({ barmode: "stack", yaxis: money, showlegend: report.groups.length > 0 }), options);
  // By itself it would put its ticks where the other axis has them, at fractions of a request.
  const requests = { title: { text: "requests" }, overlaying: "y", side: "right", tickmode: "auto" };
  Plotly.react("use", use(), layout({ yaxis: { title: { text: "tokens" } }, yaxis2: requests }), options);
  Plotly.react("top", spenders(), layout({ xaxis: money, yaxis: { automargin: true }, margin: { t: 10, r: 20, b: 40, l: 60 } }), options);
}

draw();
dark.addEventListener("change", draw);
