import { badge, csvButton, el, figures, fill, getJson, key, poll, table, when } from "./site.js";

const KIND = { completed: "good", failed: "bad", rejected: "bad", held: "warn", resolved: "good" };
const HOLDS = "internal/v1/component-review/holds";
let entries = [];
let token = "";
const opened = new Set();
const FAMILIES = 50;
const TRAININGS = 100;

const columns = [
  { name: "Rank", value: (row) => row.rank, number: true },
  { name: "Miner", value: (row) => row.hotkey, show: (row) => key(row.hotkey) },
  { name: "Score", value: (row) => row.score, show: (row) => row.score.toFixed(4), number: true },
  { name: "Submission", value: (row) => row.submission_id, show: (row) => opener(row.submission_id) },
];

function opener(id) {
  return el("button", { class: "plain", type: "button", onclick: () => show(id) }, `${id.slice(0, 8)}…`);
}

/** What others wrote, at a length that leaves room for the rest; the whole of it on hover. */
function told(text) {
  return el("span", { class: "quiet told", title: text }, text.length > 300 ? `${text.slice(0, 300)}…` : text);
}

/** A list that ends at `most` may have been cut there. */
function count(rows, most = 50) {
  return rows.length < most ? rows.length : `${most} or more`;
}

function status(text) {
  return badge(text, KIND[text] ?? "");
}

/** The id that manifests and decisions on holds refer to. */
function named(id) {
  return el("span", { class: "quiet small" }, "id ", key(id));
}

/** A family and, below it, who trains it best; its other trainings and its past are asked for when opened. */
function branch(family, best, unknown) {
  const id = encodeURIComponent(family.id);
  return el("li", {}, el("div", { class: "row" },
    el("strong", { class: "mono" }, family.family_hash.slice(0, 10)), el("span", {}, "owned by"), key(family.owner_hotkey),
    el("span", { class: "number" }, `q ${family.q_arch_best.toFixed(3)}`), opener(family.canonical_submission_id),
    el("span", { class: "quiet small" }, when(family.updated_at)), named(family.id)),
    best ? trainings([best], "current best training") : unknown,
    unfolding("training variants", id, `v1/training-variants?architecture_id=${id}&limit=${TRAININGS}`, (found) => [
      trainings(found, "training variants"), cut(found, TRAININGS, "These are its 100 best trainings; there may be more.")]),
    unfolding("ownership history", id, `v1/architectures/${id}/history`, (events) =>
      el("ol", { class: "history", "aria-label": "ownership history" }, events.map(event))));
}

function trainings(variants, label) {
  if (!variants.length) return el("p", { class: "empty" }, "Nobody has trained it yet.");
  return el("ul", { "aria-label": label }, variants.map((variant) => el("li", {}, el("div", { class: "row" },
    variant.is_current_best ? badge("current best", "good") : badge("variant"),
    key(variant.owner_hotkey), el("span", { class: "number" }, `q ${variant.q_recipe.toFixed(3)}`),
    el("span", { class: "quiet small" }, when(variant.updated_at)), named(variant.id)))));
}

/** Said below a list that may have been cut. */
function cut(rows, most, ...words) {
  return rows.length < most ? "" : el("p", { class: "quiet small cut" }, words);
}

/** What is loaded when it is opened, and stays open when the page looks again. */
function unfolding(title, id, path, show) {
  const box = el("div", { class: "small" });
  const name = `${title} ${id}`;
  const load = async () => {
    try {
      fill(box, show(await getJson(path)));
    } catch (error) {
      fill(box, el("p", { class: "empty" }, error.message));
    }
  };
  const turn = (turned) => {
    opened[turned.target.open ? "add" : "delete"](name);
    if (turned.target.open) load();
  };
  return el("details", { open: opened.has(name), ontoggle: turn }, el("summary", { class: "quiet small" }, title), box);
}

function event(found) {
  const owners = found.from_hotkey ? [key(found.from_hotkey), el("span", {}, "→"), key(found.to_hotkey)] : [key(found.to_hotkey)];
  return el("li", {}, el("div", { class: "row" }, badge(`${found.scope} ${found.event}`, found.event === "transferred" ? "warn" : "good"),
    owners, opener(found.submission_id), told(found.reason), el("span", { class: "quiet" }, when(found.at))));
}

async function refresh() {
  const [board, families, variants, epoch] = await Promise.all([
    getJson("v1/leaderboard"), getJson(`v1/architectures?limit=${FAMILIES}`), getJson(`v1/training-variants?limit=${FAMILIES}`), getJson("v1/epochs/current"),
  ]);
  const best = new Map(variants.filter((variant) => variant.is_current_best).map((variant) => [variant.architecture_id, variant]));
  const unknown = () => cut(variants, FAMILIES, "Its best training is none of the 50 best of all; it unfolds here:");
  entries = board.entries;
  const ends = new Date((epoch.epoch_id + 1) * epoch.epoch_seconds * 1000);
  fill("#figures", figures({ Epoch: epoch.epoch_id, "Epoch ends": ends.toLocaleTimeString(), Completed: count(entries), Families: count(families) }));
  fill("#board", table({ caption: "Completed submissions, the best first", columns, rows: entries, empty: "Nothing has completed in this epoch yet." }),
    el("div", { class: "tools" }, csvButton("prism-leaderboard.csv", columns, () => entries)));
  fill("#families", families.length
    ? el("ul", { class: "tree" }, families.map((family) => branch(family, best.get(family.id), unknown())))
    : el("p", { class: "empty" }, "No architecture is known yet."),
    cut(families, FAMILIES, "These are the 50 best families; there may be more: ", el("a", { href: "v1/architectures?limit=500" }, "up to 500 as JSON"), "."));
  return `epoch ${epoch.epoch_id}, ${entries.length} on the board`;
}

/** The way of one submission so far, with its scores and the reason of its end. */
async function show(id) {
  document.querySelector("#submission").value = id;
  try {
    const path = `v1/submissions/${encodeURIComponent(id)}`;
    const [found, way] = await Promise.all([getJson(path), getJson(`${path}/timeline`)]);
    const number = (value) => (value === null ? "–" : value.toFixed(4));
    fill("#timeline",
      el("ol", { class: "timeline" }, way.map((step) => el("li", {}, status(step.status), el("span", { class: "quiet small" }, when(step.at))))),
      figures({ Score: number(found.final_score), Architecture: number(found.q_arch), Recipe: number(found.q_recipe), Epoch: found.epoch_id }),
      el("p", {}, "Submitted by ", key(found.hotkey), " ", when(found.created_at)),
      found.error ? el("p", {}, "Reason: ", el("span", { class: "told" }, found.error)) : "");
  } catch (error) {
    fill("#timeline", el("p", { class: "empty" }, error.message));
  }
}

async function showHolds() {
  try {
    const found = await getJson(HOLDS, { headers: { Authorization: `Bearer ${token}` } });
    fill("#holds", found.length ? found.map(hold) : el("p", { class: "empty" }, "Nothing is or was held."));
  } catch (error) {
    fill("#holds", el("p", { class: "empty" }, error.message));
  }
}

function hold(found) {
  return el("div", { class: "hold" },
    el("div", { class: "row" }, status(found.status), opener(found.submission_id), el("span", { class: "number" }, `confidence ${found.confidence.toFixed(2)}`), when(found.created_at)),
    el("p", {}, found.reason), found.status === "pending" ? decision(found) : null);
}

/** The operator's choice; a refusal leaves the hold as it was and is shown beside it. */
function decision(found) {
  const choice = (name, options) => el("select", { name, "aria-label": name.replace("_", " ") }, options.map((option) => el("option", { value: option }, option)));
  const text = (name, label) => el("input", { name, placeholder: label, "aria-label": label, autocomplete: "off" });
  const said = el("span", { class: "quiet small", role: "status" });
  const send = async (event) => {
    event.preventDefault();
    const given = Object.fromEntries([...new FormData(event.target)].filter(([, value]) => value));
    try {
      await getJson(`${HOLDS}/${found.id}/resolve`, {
        method: "POST", headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" }, body: JSON.stringify(given),
      });
      await showHolds();
    } catch (error) {
      said.textContent = error.message;
    }
  };
  return el("form", { class: "tools", onsubmit: send },
    choice("architecture_action", ["existing", "new", "transfer", "reject"]), choice("training_action", ["none", "new", "existing", "transfer", "reject"]),
    text("architecture_id", "architecture id"), text("training_variant_id", "variant id"), text("reason", "reason"),
    el("button", { class: "plain", type: "submit" }, "Resolve"), said);
}

document.querySelector("#lookup").addEventListener("submit", (event) => {
  event.preventDefault();
  show(document.querySelector("#submission").value.trim());
});
document.querySelector("#unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  token = document.querySelector("#token").value;
  document.querySelector("#token").value = "";
  showHolds();
});
poll(refresh);
