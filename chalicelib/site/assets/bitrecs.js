// The dashboard of Bitrecs: who leads, who waits, how one agent was judged, who is connected.
import { badge, csvButton, el, figures, fill, getJson, key, percent, poll, redraw, table, when } from "./site.js";

const KINDS = {
  finished: "good", evaluating: "warn", screening_1: "", screening_2: "",
  failed_screening_1: "bad", failed_screening_2: "bad", success: "good", failure: "bad", running: "warn", error: "bad",
};
const WORDS = {
  screening_1: "first screening", screening_2: "second screening", evaluating: "evaluating", finished: "finished",
  failed_screening_1: "failed first screening", failed_screening_2: "failed second screening",
};
const GROUPS = { screener_1: "First screener", screener_2: "Second screener", validator: "Validator" };

let chosen = new URLSearchParams(location.hash.slice(1)).get("agent");
let weights = {};
let board = [];

const state = (value) => badge(WORDS[value] ?? value, KINDS[value] ?? "");
const long = (text) => (text ? el("span", { class: "long" }, text) : "–");
const choose = (agent) => el("button", { class: "plain", type: "button", onclick: () => show(agent.agent_id) }, agent.name);

const BOARD = [
  { name: "Agent", value: (agent) => agent.name, show: choose },
  { name: "Miner", value: (agent) => agent.miner_hotkey, show: (agent) => key(agent.miner_hotkey) },
  { name: "UID", value: (agent) => agent.miner_uid, number: true },
  { name: "Model", value: (agent) => agent.model, show: (agent) => long(agent.model) },
  { name: "Score", value: (agent) => agent.final_score, show: (agent) => percent(agent.final_score), number: true },
  { name: "Weight", value: (agent) => weights[agent.miner_uid] ?? 0, show: (agent) => percent(weights[agent.miner_uid] ?? 0), number: true },
  { name: "Validators", value: (agent) => agent.validator_count, number: true },
  { name: "Submitted", value: (agent) => agent.created_at, show: (agent) => when(agent.created_at) },
];
const QUEUE = [
  { name: "Agent", value: (agent) => agent.name, show: choose },
  { name: "Miner", value: (agent) => agent.miner_hotkey, show: (agent) => key(agent.miner_hotkey) },
  { name: "State", value: (agent) => agent.status, show: (agent) => state(agent.status) },
  { name: "Submitted", value: (agent) => agent.created_at, show: (agent) => when(agent.created_at) },
];
const RUNS = [
  { name: "Problem", value: (run) => run.problem_name },
  { name: "State", value: (run) => run.status, show: (run) => state(run.status) },
  { name: "Score", value: scoreOf, show: (run) => percent(scoreOf(run)), number: true },
  { name: "Error", value: (run) => run.error_message, show: (run) => long(run.error_message) },
  { name: "Ended", value: (run) => run.finished_or_errored_at, show: (run) => when(run.finished_or_errored_at) },
];
const VALIDATORS = [
  { name: "Name", value: (one) => one.name },
  { name: "Hotkey", value: (one) => one.hotkey, show: (one) => (one.hotkey === one.name ? "–" : key(one.hotkey)) },
  { name: "Works on", value: (one) => one.agent?.name, show: (one) => (one.agent ? choose(one.agent) : "–") },
  { name: "Last heartbeat", value: (one) => one.time_last_heartbeat, show: (one) => when(one.time_last_heartbeat) },
  { name: "Connected", value: (one) => one.time_connected, show: (one) => when(one.time_connected) },
];

function scoreOf(run) {
  const scores = (run.test_results ?? []).map((result) => result.score ?? (result.status === "pass" ? 1 : 0));
  return scores.length ? scores.reduce((sum, score) => sum + score, 0) / scores.length : null;
}

async function drawOverview() {
  const [health, agents, winner, set, validators] = await Promise.all([
    getJson("health"), getJson("retrieval/top-agents"), getJson("scoring/wta"), getJson("scoring/latest-set-info"),
    getJson("validator/connected-validators-info"),
  ]);
  weights = winner.chain_weights ?? {};
  board = agents;
  fill("#figures", figures({
    Agents: health.agent_count,
    "Evaluation set": set.latest_set_id,
    "Best score": agents.length ? percent(agents[0].final_score) : "–",
    "Winner (UID)": winner.winner_uid ?? "–",
    Validators: health.validators.connected_validators,
    Screeners: health.validators.connected_screeners,
    Submissions: health.submissions_enabled ? "open" : "closed",
  }));
  drawBoard();
  redraw("#validators", validators, () => table({
    caption: "Sessions with a young heartbeat", columns: VALIDATORS, rows: validators, empty: "Nobody is connected.",
  }));
  await drawQueue();
  if (chosen) await drawAgent().catch(() => {});
  return `set ${set.latest_set_id}, ${agents.length} ranked, updated ${new Date().toLocaleTimeString()}`;
}

function drawBoard() {
  redraw("#board", [board, weights, chosen], () => table({
    caption: "The best agents of the current evaluation set", columns: BOARD, rows: board,
    empty: "No agent of this set is finished yet.", chosen: (agent) => agent.agent_id === chosen,
  }));
}

async function drawQueue() {
  const stage = document.querySelector("#stage").value;
  const waiting = await getJson(`retrieval/queue?stage=${stage}`);
  redraw("#queue", [stage, waiting, chosen], () => table({
    caption: `${waiting.length} in this stage, in the order in which they are taken`,
    columns: QUEUE, rows: waiting, empty: "Nobody waits here.", chosen: (agent) => agent.agent_id === chosen,
  }));
}

async function show(agentId) {
  chosen = agentId;
  drawBoard();
  history.replaceState(null, "", `#agent=${agentId}`);
  try {
    await drawAgent();
    document.querySelector("#agent").scrollIntoView({ block: "nearest" });
  } catch (error) {
    drawNoAgent(error);
  }
}

function drawNoAgent(error) {
  redraw("#agent", error.message, () => el("p", { class: "empty card" }, error.message));
}

async function drawAgent() {
  const asked = chosen;
  const query = `agent_id=${encodeURIComponent(asked)}`;
  const [agent, evaluations] = await Promise.all([
    getJson(`retrieval/agent-by-id?${query}`), getJson(`retrieval/evaluations-for-agent?${query}`),
  ]);
  if (asked !== chosen) return;
  redraw("#agent", [agent, evaluations], () => [
    el("div", { class: "card" },
      el("h3", {}, agent.name, " ", state(agent.status)),
      figures({
        Miner: key(agent.miner_hotkey), UID: agent.miner_uid, Model: agent.model, Provider: agent.provider,
        "Final score": percent(agent.final_score), Submitted: when(agent.created_at),
      }),
      prompt("System prompt", agent.system_prompt_template), prompt("User prompt", agent.user_prompt_template)),
    evaluations.length ? evaluations.map(drawEvaluation) : el("p", { class: "empty" }, "Not evaluated yet."),
  ].flat());
}

function prompt(title, text) {
  return el("details", {}, el("summary", {}, title),
    text === null ? el("p", { class: "quiet" }, "Hidden until the agent is finished or has failed.") : el("pre", {}, text));
}

function drawEvaluation(evaluation) {
  return el("section", {},
    el("h3", {}, `${GROUPS[evaluation.evaluation_set_group]} `, state(evaluation.status), ` ${percent(evaluation.score)}`),
    table({ caption: `by ${evaluation.validator_hotkey}, set ${evaluation.set_id}`, columns: RUNS, rows: evaluation.runs }));
}

document.querySelector("#stage").addEventListener("change", () => drawQueue().catch(() => {}));
document.querySelector("#find").addEventListener("submit", async (event) => {
  event.preventDefault();
  const wanted = document.querySelector("#wanted").value.trim();
  if (wanted.includes("-")) return show(wanted);
  try {
    show((await getJson(`retrieval/agent-by-hotkey?miner_hotkey=${encodeURIComponent(wanted)}`)).agent_id);
  } catch (error) {
    chosen = null;
    drawBoard();
    drawNoAgent(error);
  }
});
fill("#board-tools", csvButton("bitrecs-leaderboard.csv", BOARD, () => board));
poll(drawOverview);
if (chosen) show(chosen);
