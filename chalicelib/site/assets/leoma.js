import { badge, csvButton, el, figures, fill, getJson, key, percent, poll, redraw, table, when } from "./site.js";

const TASKS_SHOWN = 100;
const MODEL_LETTERS = 40;
const STALE_SECONDS = 2 * 3600;
const view = { ranks: [], weights: new Map(), miners: new Map(), miner: null, task: null, tasks: [] };

// --- ranks

const rankColumns = [
  { name: "Rank", value: (row) => row.rank, number: true },
  { name: "UID", value: (row) => row.uid, number: true },
  { name: "Miner", value: (row) => row.miner_hotkey, show: (row) => key(row.miner_hotkey) },
  { name: "Model", value: (row) => row.model, show: (row) => el("span", { class: "words", title: row.model ?? "" }, shortModel(row)) },
  { name: "Passed", value: (row) => row.passed_count, number: true },
  { name: "Pass rate", value: (row) => row.pass_rate, show: (row) => percent(row.pass_rate), number: true },
  { name: "Block", value: (row) => row.block, number: true },
  { name: "Weight", value: (row) => row.weight, show: (row) => (row.weight ? badge("all", "good") : "0"), number: true },
  { name: "State", value: (row) => row.state, show: (row) => badge(row.state, row.state === "valid" ? "good" : "warn") },
  { name: "Tasks", value: (row) => row.miner_hotkey, show: (row) => chooser(row) },
];

function shortModel(row) {
  const name = row.model ? row.model.replace(row.miner_hotkey, "…") : "–";
  return name.length > MODEL_LETTERS ? `${name.slice(0, MODEL_LETTERS)}…` : name;
}

function chooser(row) {
  const label = `Show the tasks of ${row.miner_hotkey}`;
  return el("button", { class: "plain", type: "button", "aria-label": label, onclick: () => choose(row.miner_hotkey, null) }, "Show");
}

/** Ranked miners first, then everybody else, so that an empty rank list still says who is there. */
function rows() {
  const wanted = document.querySelector("#find").value.trim().toLowerCase();
  const ranked = new Set(view.ranks.map((entry) => entry.miner_hotkey));
  const others = [...view.miners.values()].filter((miner) => !ranked.has(miner.hotkey))
    .map((miner) => ({ miner_hotkey: miner.hotkey, uid: miner.uid, rank: null, passed_count: null, pass_rate: null, block: miner.block }));
  return [...view.ranks, ...others].map(described)
    .filter((row) => !wanted || row.miner_hotkey.toLowerCase().includes(wanted) || String(row.uid) === wanted);
}

function described(row) {
  const miner = view.miners.get(row.miner_hotkey);
  const state = miner ? (miner.is_valid ? "valid" : miner.invalid_reason ?? "invalid") : "gone";
  return { ...row, model: miner?.model_name ?? null, weight: view.weights.get(row.miner_hotkey) ?? 0, state };
}

function drawRanks() {
  const found = rows();
  redraw("#ranks", [found, view.miner, view.ranks.length], () => table({
    caption: view.ranks.length ? "Miners by rank" : "Nobody is ranked yet: the window of tasks is not full, or nobody judged four fifths of it",
    columns: rankColumns,
    rows: found,
    empty: view.miners.size ? "No miner matches." : "No miner has committed a model yet.",
    chosen: (row) => row.miner_hotkey === view.miner,
  }));
}

// --- a miner's tasks

async function choose(hotkey, task) {
  history.replaceState(null, "", `#${new URLSearchParams({ miner: hotkey, ...(task ? { task } : {}) })}`);
  const another = hotkey !== view.miner;
  Object.assign(view, { miner: hotkey, task });
  if (another) {
    view.tasks = [];
    fill("#task", el("p", { class: "empty card" }, "Choose a task of this miner."));
    drawRanks();
  }
  await showMiner();
  if (task) await showTask();
  if (another) document.querySelector("#miner-title").scrollIntoView({ block: "start" });
}

async function showMiner() {
  const asked = view.miner;
  const found = await getJson(`miners/${asked}/tasks`).catch((error) => error);
  if (asked !== view.miner) return;
  if (found instanceof Error) {
    fill("#miner", el("p", { class: "empty card" }, `The tasks could not be read: ${found.message}`));
    return;
  }
  view.tasks = found;
  drawTasks();
}

function drawTasks() {
  const shown = view.tasks.slice(0, TASKS_SHOWN);
  const passed = shown.filter((task) => task.passed).length;
  const columns = ["task_id", "passed", "latency_ms", "updated"].map((name) => ({ name, value: (task) => task[name] }));
  const strip = el("div", { class: "tasks", role: "group", "aria-label": "tasks, newest first" }, shown.map((task) =>
    el("button", {
      type: "button",
      class: task.passed ? "pass" : "fail",
      "aria-pressed": String(String(task.task_id) === String(view.task)),
      "aria-label": `task ${task.task_id} ${task.passed ? "passed" : "failed"}`,
      title: task.latency_ms === null ? "latency unknown" : `answered in ${(task.latency_ms / 1000).toFixed(1)} s`,
      onclick: () => choose(view.miner, String(task.task_id)),
    }, String(task.task_id))));
  fill("#miner",
    el("p", {}, key(view.miner, 10), ` passed ${passed} of the newest ${shown.length}`, view.tasks.length > shown.length ? ` (${view.tasks.length} in all)` : "", "."),
    shown.length ? strip : el("p", { class: "empty card" }, "No validator has judged this miner yet."),
    shown.length ? el("div", { class: "tools" }, csvButton(`leoma-tasks-${view.miner}.csv`, columns, () => view.tasks)) : null);
}

// --- one task

async function showTask() {
  const asked = `${view.task}/miner/${view.miner}`;
  let detail;
  try {
    detail = await getJson(`tasks/${asked}`);
  } catch (error) {
    fill("#task", el("p", { class: "empty card" }, `Task ${view.task}: ${error.message}`));
    return;
  }
  if (asked !== `${view.task}/miner/${view.miner}`) return;
  fill("#task",
    el("p", {}, `Task ${detail.task_id} `, badge(detail.final_passed ? "passed" : "failed", detail.final_passed ? "good" : "bad"),
      detail.latency_ms === null ? "" : ` answered in ${(detail.latency_ms / 1000).toFixed(1)} s`),
    detail.description ? el("p", { class: "words" }, `“${detail.description}”`) : null,
    clips(detail),
    verdicts(detail));
}

function clips(detail) {
  const shown = [["Original clip", detail.original_clip_url], ["Generated video", detail.generated_video_url]].filter(([, url]) => url);
  if (!shown.length) return el("p", { class: "quiet" }, "This deployment keeps no clips.");
  const videos = shown.map(([name, url]) => {
    const words = el("span", {}, name);
    const video = el("video", { src: url, controls: true, loop: true, preload: "metadata", playsinline: true, "aria-label": name });
    video.muted = true;
    const figure = el("figure", {}, video, el("figcaption", {}, words));
    video.addEventListener("error", () => {
      words.textContent = `${name}: not in the bucket, or not playable`;
      video.hidden = true;
      figure.className = "card";
    });
    return { video, figure };
  });
  return el("div", {},
    el("div", { class: "clips" }, videos.map(({ figure }) => figure)),
    el("div", { class: "tools" },
      playTogether(videos.map(({ video }) => video)),
      el("a", { class: "button", href: detail.first_frame_url, rel: "noreferrer", target: "_blank" }, "First frame")));
}

/** A button that starts all clips at once, again when the longest is over, and stops them. */
function playTogether(videos) {
  const button = el("button", { class: "plain", type: "button", "aria-pressed": "false" }, "Play side by side");
  const playable = () => videos.filter((video) => !video.error);
  const begin = () => playable().forEach((video) => { video.currentTime = 0; video.play().catch(() => {}); });
  const say = (playing) => {
    button.setAttribute("aria-pressed", String(playing));
    button.textContent = playing ? "Stop both" : "Play side by side";
  };
  button.addEventListener("click", () => {
    const starts = button.getAttribute("aria-pressed") === "false";
    for (const video of videos) video.loop = !starts;
    if (starts) begin();
    else for (const video of videos) video.pause();
    say(starts);
  });
  for (const video of videos) {
    video.addEventListener("ended", () => { if (playable().every((other) => other.ended)) begin(); });
    video.addEventListener("error", () => { button.hidden = !playable().length; });
  }
  return button;
}

function verdicts(detail) {
  const columns = [
    { name: "Validator", value: (row) => row.validator_hotkey, show: (row) => key(row.validator_hotkey) },
    { name: "Verdict", value: (row) => row.passed, show: (row) => badge(row.passed ? "passed" : "failed", row.passed ? "good" : "bad") },
    { name: "Agrees", value: (row) => row.passed === detail.final_passed, show: (row) => (row.passed === detail.final_passed ? "yes" : "no") },
    { name: "Stake", value: (row) => row.stake, show: (row) => row.stake.toLocaleString(), number: true },
    { name: "Confidence", value: (row) => row.confidence, number: true },
    { name: "Score", value: (row) => row.overall_score, number: true },
    { name: "Aspects", value: (row) => JSON.stringify(row.aspect_scores ?? {}), show: (row) => aspects(row.aspect_scores) },
    { name: "Reasoning", value: (row) => row.reasoning, show: (row) => el("div", { class: "words" }, row.reasoning ?? "–") },
    { name: "Evaluated", value: (row) => row.evaluated_at, show: (row) => when(row.evaluated_at) },
  ];
  return el("div", {},
    table({ caption: "Verdicts, the oldest first", columns, rows: detail.validators }),
    el("div", { class: "tools" }, csvButton(`leoma-task-${detail.task_id}-${detail.miner_hotkey}.csv`, columns, () => detail.validators)));
}

function aspects(scores) {
  return el("div", { class: "aspects" }, Object.entries(scores ?? {}).map(([name, score]) => badge(`${name.replaceAll("_", " ")} ${score}`)));
}

// --- validators

const validatorColumns = [
  { name: "Validator", value: (row) => row.validator_hotkey, show: (row) => key(row.validator_hotkey) },
  { name: "Stake", value: (row) => row.stake, show: (row) => (row.stake === null ? "–" : row.stake.toLocaleString()), number: true },
  { name: "Samples", value: (row) => row.total_samples, number: true },
  { name: "Passed", value: (row) => row.total_passed, number: true },
  { name: "Pass rate", value: (row) => row.pass_rate, show: (row) => percent(row.pass_rate), number: true },
  { name: "Votes in window", value: (row) => row.votes, number: true },
  { name: "With the majority", value: (row) => row.agreement, show: (row) => percent(row.agreement), number: true },
];

function drawValidators(summaries, agreement) {
  const known = new Map(agreement.map((row) => [row.validator_hotkey, row]));
  const found = summaries.map((row) => ({ stake: null, votes: 0, agreement: null, ...row, ...known.get(row.validator_hotkey) }));
  redraw("#validators", found, () => table({ caption: "How validators vote, and how often the stake-weighted verdict is theirs", columns: validatorColumns, rows: found, empty: "No validator has judged anything yet." }));
  redraw("#validators-tools", found, () => (found.length ? csvButton("leoma-validators.csv", validatorColumns, () => found) : []));
}

// --- everything, once per block

async function weightsWithAge() {
  const answer = await fetch("weights", { cache: "no-cache", signal: AbortSignal.timeout(10000) });
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  const header = (name) => (answer.headers.has(name) ? Number(answer.headers.get(name)) : null);
  return { ...(await answer.json()), age: header("x-snapshot-age"), block: header("x-snapshot-block") };
}

function asOf(weights) {
  if (weights.age === null) return "no ranks were computed yet";
  const minutes = Math.round(weights.age / 60);
  const age = minutes < 1 ? "just now" : minutes < 120 ? `${minutes} min ago` : `${Math.round(minutes / 60)} h ago`;
  const words = `ranks as of block ${weights.block ?? "?"}, computed ${age}`;
  return weights.age > STALE_SECONDS ? { words: `${words} — the scorer is late`, state: "stale" } : words;
}

poll(async () => {
  const latest = getJson("tasks/latest").then((body) => body.task_id, (error) => { if (error.status === 404) return null; throw error; });
  const [ranks, weights, miners, stats, summaries, agreement, task] = await Promise.all([
    getJson("scores/rank"), weightsWithAge(), getJson("miners/list"), getJson("scores/stats"),
    getJson("scores/validators"), getJson("scores/agreement"), latest,
  ]);
  view.ranks = ranks.ranks;
  view.weights = new Map(weights.miners.map((entry) => [entry.miner_hotkey, entry.weight]));
  view.miners = new Map(miners.miners.map((miner) => [miner.hotkey, miner]));
  fill("#figures", figures({
    "Latest task": task ?? "none yet",
    "Winner": weights.winner_uid ? `UID ${weights.winner_uid}` : "burn (UID 0)",
    "Valid miners": `${miners.valid_count} of ${miners.total}`,
    "Validators": stats.total_validators,
    "Samples": stats.total_samples.toLocaleString(),
    "Pass rate": percent(stats.total_score_entries ? stats.overall_pass_rate : null),
  }));
  drawRanks();
  drawValidators(summaries, agreement);
  return asOf(weights);
}, { seconds: 12 });

fill("#ranks-tools", csvButton("leoma-ranks.csv", rankColumns.slice(0, -1), rows));
document.querySelector("#find").addEventListener("input", drawRanks);

const wanted = new URLSearchParams(location.hash.slice(1));
if (wanted.get("miner")) choose(wanted.get("miner"), wanted.get("task"));
