// Experts: phase clock for everybody; versions, groups and submissions for those who hold a token.
import { badge, csvButton, el, figures, fill, getJson, key, poll, table, when } from "./site.js";

const KEPT = "experts-token";
const KINDS = { scored: "good", rejected: "bad", failed: "warn" };
let overview = null;
let token = sessionStorage.getItem(KEPT) ?? "";

const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
function size(bytes) {
  let place = 0;
  while (bytes >= 1024 && place < units.length - 1) { bytes /= 1024; place += 1; }
  return `${place ? bytes.toFixed(1) : bytes} ${units[place]}`;
}

function minutes(blocks, seconds) {
  const total = Math.round((blocks * seconds) / 60);
  return total < 1 ? "under a minute" : total < 120 ? `about ${total} min` : `about ${(total / 60).toFixed(1)} h`;
}

function showHealth(health) {
  const seconds = overview?.block_seconds ?? 12;
  fill("#health", figures({
    Phase: health.phase,
    Block: health.current_block.toLocaleString(),
    "Left in this phase": `${health.blocks_remaining + 1} blocks`,
    "Which is": minutes(health.blocks_remaining + 1, seconds),
    Version: health.model_version ?? "none yet",
    Service: health.status,
  }));
  showClock(health);
}

function showClock(health) {
  if (!overview) return fill("#clock");
  const whole = overview.phases.reduce((sum, phase) => sum + phase.blocks, 0);
  const share = (100 * (health.current_block % whole)) / whole;
  const strip = el("div", { class: "cycle", role: "img", "aria-label": `${share.toFixed(0)} % of a cycle of ${whole} blocks are over` });
  for (const phase of overview.phases) {
    const part = el("span", { class: phase.name, title: `${phase.detail}: ${phase.blocks} blocks (${phase.name})` });
    part.style.flexGrow = phase.blocks;
    strip.append(part);
  }
  const hand = el("i");
  hand.style.left = `${share}%`;
  strip.append(hand);
  const names = [...new Set(overview.phases.map((phase) => phase.name))];
  const blocks = (name) => overview.phases.filter((phase) => phase.name === name).reduce((sum, phase) => sum + phase.blocks, 0);
  fill("#clock", strip, el("div", { class: "legend" }, names.map((name) => el("span", {}, el("i", { class: name }), `${name}: ${blocks(name)} blocks`))));
}

function showVersions() {
  const columns = [
    { name: "Version", value: (row) => row.model_version, show: (row) => el("span", { class: "words" }, row.model_version, " ", row.version_id === overview.current ? badge("served", "good") : null) },
    { name: "Block", value: (row) => row.block_number, number: true },
    { name: "Published", value: (row) => row.published_at, show: (row) => when(row.published_at) },
    { name: "Whole model", value: (row) => row.full_bytes, show: (row) => size(row.full_bytes), number: true },
    { name: "Groups", value: (row) => row.groups.length, number: true },
  ];
  fill("#versions", table({ caption: "Published versions, newest first", columns, rows: overview.versions, empty: "No version is published yet: subnetctl experts publish." }));
  const served = overview.versions.find((version) => version.version_id === overview.current);
  const parts = [
    { name: "Group", value: (row) => row.group, number: true },
    { name: "Slice", value: (row) => row.bytes, show: (row) => size(row.bytes), number: true },
    { name: "Tensors", value: (row) => row.tensors, number: true },
    { name: "Content hash", value: (row) => row.content_hash, show: (row) => key(row.content_hash.replace("sha256:", ""), 12) },
  ];
  fill("#groups-title", served ? `Groups of ${served.model_version}` : "Groups");
  fill("#groups", table({ caption: "What miners download", columns: parts, rows: served?.groups ?? [] }));
}

const columns = [
  { name: "Miner", value: (row) => row.hotkey, show: (row) => key(row.hotkey) },
  { name: "Group", value: (row) => row.group, number: true },
  { name: "Cycle", value: (row) => row.cycle, number: true },
  { name: "Block", value: (row) => row.block_number, number: true },
  { name: "State", value: (row) => row.state, show: (row) => el("span", {}, badge(row.state, KINDS[row.state] ?? ""), row.reason ? el("span", { class: "reason" }, `${row.code}: ${row.reason}`) : null) },
  { name: "Score", value: (row) => row.score, show: (row) => (row.score === null ? "–" : row.score.toPrecision(4)), number: true },
  { name: "Rank score", value: (row) => row.rank_score, show: (row) => (row.rank_score === null ? "–" : String(row.rank_score)), number: true },
  { name: "Merged into", value: (row) => row.merged_into, show: (row) => el("span", {}, row.merged_into ?? "–", " ", row.near_copy_of ? badge("near copy", "warn") : null) },
  { name: "Updated", value: (row) => row.updated_at, show: (row) => when(row.updated_at) },
];

function chosenSubmissions() {
  const state = document.querySelector("#state").value;
  return overview.submissions.filter((row) => !state || row.state === state);
}

function showSubmissions() {
  const select = document.querySelector("#state");
  const states = [...new Set(overview.submissions.map((row) => row.state))].sort();
  const known = select.value;
  fill(select, el("option", { value: "" }, "all"), states.map((state) => el("option", { value: state }, state)));
  select.value = states.includes(known) ? known : "";
  fill("#csv", csvButton("submissions.csv", columns, chosenSubmissions));
  fill("#submissions", table({ caption: "The newest first", columns, rows: chosenSubmissions(), empty: "No submission yet." }));
}

async function readOverview() {
  try {
    const found = await getJson("overview", { headers: { Authorization: `Bearer ${token}` } });
    const changed = JSON.stringify(found) !== JSON.stringify(overview);
    overview = found.phases ? found : { ...found, phases: [], block_seconds: 12, current: null };
    document.querySelector("#inside").hidden = false;
    document.querySelector("#forget").hidden = false;
    fill("#refused");
    if (changed) { showVersions(); showSubmissions(); }
  } catch (error) {
    if (error.status !== 401) throw error;
    forget();
    fill("#refused", "This token is not accepted.");
  }
}

function forget() {
  token = "";
  overview = null;
  sessionStorage.removeItem(KEPT);
  document.querySelector("#inside").hidden = true;
  document.querySelector("#forget").hidden = true;
  fill("#clock");
}

async function work() {
  if (token) await readOverview();
  const health = await getJson("health");
  showHealth(health);
  return health.block_age_s === null ? "no block was observed yet" : `block observed ${Math.round(health.block_age_s)} s ago`;
}

const again = poll(work);
document.querySelector("#key").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = document.querySelector("#token").value.trim();
  document.querySelector("#token").value = "";
  if (!/^[!-~]*$/.test(given)) return fill("#refused", "This is no token: copy it whole, letters and digits.");
  token = given;
  sessionStorage.setItem(KEPT, token);
  again();
});
document.querySelector("#forget").addEventListener("click", () => { forget(); again(); });
document.querySelector("#state").addEventListener("change", showSubmissions);
