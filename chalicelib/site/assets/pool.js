import { csvButton, el, figures, fill, getJson, key, lineChart, poll, table } from "./site.js";
import { claimsSection } from "./proof.js";

let claimsBase = null;
let miners = [];

const COLUMNS = [
  { name: "Rank", value: (row) => row.rank, number: true },
  { name: "Miner", value: (row) => row.miner_hotkey, show: (row) => key(row.miner_hotkey) },
  { name: "Reputation", value: (row) => row.reputation, number: true, show: (row) => row.reputation.toFixed(2) },
  { name: "Agreements", value: (row) => row.agreements, number: true },
  { name: "Verified", value: (row) => row.evolutions_verified, number: true },
];

function span(seconds) {
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min`;
}

function showFigures(health, pool) {
  fill("#figures", figures({
    Window: pool.window_number,
    "Next window in": span(health.time_remaining_s),
    "Miners seen this hour": `${pool.active_miners} of ${pool.total_miners}`,
    "Reputation in all": pool.total_reputation.toFixed(1),
  }));
  fill("#work", figures({
    "Programs waiting for scores": pool.algorithms_in_evaluation,
    "Programs in all": pool.algorithms_total,
    "Verified results": pool.results_verified,
  }));
}

async function showSota(problems) {
  const found = await Promise.all(problems.map((task) => getJson(`api/v1/results/sota?task_type=${encodeURIComponent(task)}`)));
  fill("#sota", found.map((sota) => {
    const points = sota.history.map((entry) => [Date.parse(entry.at), entry.score]);
    if (points.length) points.push([Date.now(), sota.sota_threshold]);
    const source = sota.result_id === null ? ", the floor: nothing is verified yet" : ` by program ${sota.result_id}`;
    return el("div", { class: "card" },
      el("h3", {}, sota.task_type),
      el("p", {}, `${sota.sota_threshold.toFixed(4)}${source}`),
      points.length > 1 ? lineChart(points, { width: 280, height: 120, label: `best verified score of ${sota.task_type}`, format: (value) => value.toFixed(4) }) : null);
  }));
}

async function showClaims(health) {
  const proofs = health.onchain_runtime.proof_api;
  claims.hidden = !proofs.enabled;
  if (!proofs.enabled) return;
  claimsBase = `${proofs.path_prefix.slice(1)}/`;
  await showEpochs(proofs.simulation_enabled);
}

document.querySelector("#csv").append(csvButton("leaderboard.csv", COLUMNS, () => miners));
const claims = document.querySelector("#claims");
const showEpochs = claimsSection(claims, () => claimsBase);

poll(async () => {
  const [health, pool, board] = await Promise.all([getJson("health"), getJson("api/v1/pool"), getJson("api/v1/miners/leaderboard?limit=100")]);
  miners = board.miners;
  showFigures(health, pool);
  fill("#leaderboard", table({ caption: "The hundred best miners", columns: COLUMNS, rows: miners, empty: "No miner has registered yet." }));
  await Promise.all([showSota(Object.keys(pool.sota)), showClaims(health)]);
  const age = health.tempo.stale ? ", chain data is stale" : "";
  return `${health.status}, block ${health.current_block.toLocaleString()}${age}`;
});
