// What every page shares: building nodes, polling the API politely, tables, downloads. No page ever inserts HTML text.

/** A node with properties and children; text stays text. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** Words in which back-ticks mark code. */
export function marked(text) {
  return (text ?? "").split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

export function fill(target, ...children) {
  (typeof target === "string" ? document.querySelector(target) : target).replaceChildren(...children.flat());
}

const drawn = new Map();

/** Only what changed is drawn again, so that a reader keeps place and focus from block to block. */
export function redraw(target, data, build) {
  const text = JSON.stringify(data);
  if (drawn.get(target) === text) return;
  drawn.set(target, text);
  const box = document.querySelector(target);
  const buttons = () => [...box.querySelectorAll("button")];
  const held = buttons().indexOf(document.activeElement);
  fill(box, build());
  buttons()[held]?.focus({ preventScroll: true });
}

/** JSON of a path below this page's mount; a refusal becomes an Error that carries status and body. */
export async function getJson(path, options = {}) {
  const answer = await fetch(path, { cache: "no-cache", signal: AbortSignal.timeout(10000), ...options });
  const body = await answer.json().catch(() => null);
  if (!answer.ok) {
    const detail = typeof body?.detail === "string" ? body.detail : `the server answered ${answer.status}`;
    throw Object.assign(new Error(detail), { status: answer.status, body });
  }
  return body;
}

/**
 * Run `work` now and once per block while the page is seen; failures slow down, keep what is shown, and are said.
 * It answers the words of the status line, or {words, state} where what it found is not fresh.
 */
export function poll(work, { seconds = 12, status = "#status" } = {}) {
  const line = document.querySelector(status);
  let failures = 0;
  let shownAt = null;
  let timer;
  async function round() {
    clearTimeout(timer);
    if (!document.hidden) {
      try {
        const told = await work();
        failures = 0;
        shownAt = new Date();
        say(told?.state ?? "fresh", told?.words ?? told ?? "");
      } catch (error) {
        failures += 1;
        const since = shownAt ? `showing ${shownAt.toLocaleTimeString()}` : "nothing to show yet";
        say(shownAt ? "stale" : "down", `${error.message} — ${since}, trying again`);
      }
    }
    timer = setTimeout(round, Math.min(seconds * 2 ** failures, 120) * 1000);
  }
  function say(state, words) {
    if (!line) return;
    line.dataset.state = state;
    line.textContent = words;
  }
  document.addEventListener("visibilitychange", () => document.hidden || round());
  round();
  return round;
}

/** An address, short, whole on hover and copied by a click. */
export function key(address, length = 6) {
  if (!address) return el("span", { class: "quiet" }, "–");
  const short = address.length > 2 * length + 1 ? `${address.slice(0, length)}…${address.slice(-4)}` : address;
  const copy = async (event) => {
    await navigator.clipboard?.writeText(address);
    event.target.textContent = "copied";
    setTimeout(() => (event.target.textContent = short), 900);
  };
  return el("button", { class: "copy", type: "button", title: address, "aria-label": `${short}, copy ${address}`, onclick: copy }, short);
}

/** A moment in the reader's own time, with UTC on hover. */
export function when(value) {
  if (value === null || value === undefined) return el("span", { class: "quiet" }, "never");
  const date = new Date(typeof value === "number" ? value * 1000 : value);
  return el("time", { datetime: date.toISOString(), title: date.toISOString() }, date.toLocaleString());
}

export function percent(value) {
  return value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)} %`;
}

export function badge(text, kind = "") {
  return el("span", { class: `badge ${kind}` }, text);
}

export function figures(pairs) {
  return el("dl", { class: "figures" }, Object.entries(pairs).map(([name, value]) =>
    el("div", { class: "figure" }, el("dt", {}, name), el("dd", {}, value ?? "–"))));
}

const orders = new WeakMap();

/**
 * A sortable table. A column is {name, value(row), show?(row), number?}; `empty` is said when there are no rows.
 * The order that a reader chose is kept when a table with the same columns is drawn again.
 */
export function table({ caption, columns, rows, empty = "Nothing here yet.", order = null, chosen = () => false }) {
  const box = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption });
  let sorted = orders.get(columns) ?? order;
  function draw() {
    if (!rows.length) return fill(box, el("p", { class: "empty" }, empty));
    const ordered = sorted === null ? rows : [...rows].sort(comparing(columns[sorted.column], sorted.descending));
    const head = columns.map((column, index) => {
      const state = sorted?.column === index ? (sorted.descending ? "descending" : "ascending") : "none";
      const turn = () => {
        sorted = { column: index, descending: sorted?.column === index && !sorted.descending };
        orders.set(columns, sorted);
        draw();
      };
      return el("th", { scope: "col", "aria-sort": state, class: column.number ? "number" : "" },
        el("button", { type: "button", onclick: turn }, column.name));
    });
    const body = ordered.map((row) => el("tr", { class: chosen(row) ? "chosen" : "" }, columns.map((column) =>
      el("td", { class: column.number ? "number" : "" }, column.show ? column.show(row) : String(column.value(row) ?? "–")))));
    fill(box, el("table", {}, el("caption", {}, el("span", {}, caption)), el("thead", {}, el("tr", {}, head)), el("tbody", {}, body)));
  }
  draw();
  return box;
}

function comparing(column, descending) {
  const sign = descending ? -1 : 1;
  return (left, right) => {
    const [a, b] = [column.value(left), column.value(right)];
    if (a === b) return 0;
    if (a === null || a === undefined) return 1;
    if (b === null || b === undefined) return -1;
    return sign * (a < b ? -1 : 1);
  };
}

/** Buttons that save rows as CSV (cells that a spreadsheet would run as formulas are quoted away) and as JSON. */
export function csvButton(name, columns, rows) {
  const csv = () => {
    const lines = [columns.map((column) => cell(column.name)), ...rows().map((row) => columns.map((column) => cell(column.value(row))))];
    save(name, lines.map((line) => line.join(",")).join("\r\n") + "\r\n", "text/csv");
  };
  const json = () => {
    const found = rows().map((row) => Object.fromEntries(columns.map((column) => [column.name, column.value(row) ?? null])));
    save(name.replace(/\.csv$/, ".json"), JSON.stringify(found, null, 1) + "\n", "application/json");
  };
  return el("span", { class: "tools" },
    el("button", { class: "plain", type: "button", onclick: csv }, "Download CSV"),
    el("button", { class: "plain", type: "button", onclick: json }, "Download JSON"));
}

function save(name, text, type) {
  const link = el("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

function cell(value) {
  const text = String(value ?? "");
  const harmless = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
  return `"${harmless.replaceAll('"', '""')}"`;
}

/** A line through [x, y] points, with its range in words. */
export function lineChart(points, { label, width = 640, height = 160, format = String } = {}) {
  if (points.length < 2) return el("p", { class: "empty" }, "Not enough data for a line yet.");
  const space = "http://www.w3.org/2000/svg";
  const draw = (tag, properties, text = "") => {
    const node = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(properties)) node.setAttribute(name, value);
    node.textContent = text;
    return node;
  };
  const [xs, ys] = [points.map((point) => point[0]), points.map((point) => point[1])];
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const x = (value) => 8 + ((value - left) / (right - left || 1)) * (width - 16);
  const flat = high === low;
  const y = (value) => height - 20 - (flat ? 0.5 : (value - low) / (high - low)) * (height - 40);
  const svg = draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${label}: from ${format(ys[0])} to ${format(ys.at(-1))}` });
  svg.append(
    draw("line", { x1: 8, x2: width - 8, y1: height - 20, y2: height - 20 }),
    draw("path", { d: points.map((point, index) => `${index ? "L" : "M"}${x(point[0]).toFixed(1)} ${y(point[1]).toFixed(1)}`).join("") }),
    ...(flat ? [draw("text", { x: 8, y: height / 2 - 8 }, format(low))]
      : [draw("text", { x: 8, y: 14 }, format(high)), draw("text", { x: 8, y: height - 6 }, format(low))]),
  );
  return svg;
}
