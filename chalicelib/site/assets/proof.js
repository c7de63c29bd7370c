// The list of epochs and the proof checker, for the pool's page and for the claim server's own.

import { badge, el, fill, getJson, key, percent, table, when } from "./site.js";
import { climb, hex, leafOf } from "./keccak.js";

const SHOWN = 20;
const HOW = "The proof is fetched and then verified here: the leaf is made from the claim's own fields and hashed up to the epoch's root.";

/**
 * Build the list of epochs and the proof checker into a section; answers the function that fills them anew. An epoch never
 * changes once it is published but for what is claimed of it in a simulation, so without one it is fetched once.
 */
export function claimsSection(section, base) {
  const known = new Map();
  const epochs = el("div", { id: "epochs" });
  const select = el("select", { id: "epoch", name: "epoch", required: true });
  const outcome = el("div", { id: "outcome", role: "status" });
  const form = el("form", { id: "checker", class: "tools" },
    el("label", { for: "epoch" }, "Epoch"), select,
    el("label", { for: "hotkey" }, "Hotkey"), el("input", { id: "hotkey", name: "hotkey", size: "50", autocomplete: "off", spellcheck: "false", required: true }),
    el("button", { class: "plain", type: "submit" }, "Check"));
  fill(section, el("h2", {}, "Epochs"), epochs, el("h2", {}, "Check a proof"), el("p", { class: "quiet" }, HOW), form, outcome);
  checkWhatIsAsked(form, outcome, base);
  return async (simulated) => {
    if (simulated) known.clear();
    const found = await newestEpochs(base(), known);
    fill(epochs, epochTable(found));
    offerEpochs(select, found);
  };
}

/** The newest epochs with their metadata; those that are known are not asked for. */
async function newestEpochs(base, known) {
  const { epochs } = await exactJson(`${base}epochs`, ["epochs"]);
  return Promise.all(epochs.slice(-SHOWN).reverse().map(async (number) => {
    if (!known.has(number)) known.set(number, await exactJson(`${base}epoch/${number}`, ["epoch", "total_units", "claimed_units"]));
    return known.get(number);
  }));
}

function epochTable(found) {
  return table({
    caption: found.length === SHOWN ? `The newest ${SHOWN} epochs` : "Published epochs",
    empty: "No epoch is published yet.",
    rows: found,
    columns: [
      { name: "Epoch", value: (row) => row.epoch, number: true },
      { name: "Claims", value: (row) => row.num_of_leaves, number: true },
      { name: "Units", value: (row) => row.total_units, number: true, show: (row) => row.total_units.toLocaleString() },
      { name: "Claimed", value: claimedShare, number: true, show: (row) => percent(claimedShare(row)) },
      { name: "Root", value: (row) => row.root, show: (row) => key(row.root, 8) },
      { name: "Published", value: (row) => row.published_at, show: (row) => when(row.published_at) },
    ],
  });
}

const claimedShare = (row) => Number(row.claimed_units) / Number(row.total_units);

function checkWhatIsAsked(form, outcome, base) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const asked = new FormData(form);
    fill(outcome, el("p", { class: "quiet" }, "checking"));
    try {
      fill(outcome, ...(await check(base(), asked.get("epoch"), asked.get("hotkey").trim())));
    } catch (error) {
      fill(outcome, el("p", {}, badge("no proof", "bad"), " ", error.message));
    }
  });
}

function offerEpochs(select, found) {
  const numbers = found.map((row) => String(row.epoch));
  if ([...select.options].map((option) => option.value).join() === numbers.join()) return;
  fill(select, numbers.map((number) => el("option", { value: number }, number)));
}

/** An answer whose named integers keep every digit: epochs and amounts go up to 2^64, where JavaScript's numbers do not. */
export async function exactJson(path, names) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(10000) });
  if (!answer.ok) return getJson(path);
  const text = await answer.text();
  const found = JSON.parse(text);
  const exact = (name) => {
    const [written] = text.match(new RegExp(`"${name}":\\s*\\[?[0-9,\\s]*`));
    const numbers = (written.slice(name.length + 2).match(/[0-9]+/g) ?? []).map(BigInt);
    return Array.isArray(found[name]) ? numbers : (numbers[0] ?? null);
  };
  return { ...found, ...Object.fromEntries(names.map((name) => [name, exact(name)])) };
}

async function check(base, epoch, hotkey) {
  const metadata = await getJson(`${base}epoch/${epoch}`);
  const claim = await exactJson(`${base}epoch/${epoch}/proof/${encodeURIComponent(hotkey)}`, ["epoch", "amount_units"]);
  const steps = climb(leafOf(claim), claim.proof).map(hex);
  const holds = steps.at(-1) === metadata.root;
  const verdict = holds ? badge("the proof holds", "good") : badge("the proof does not lead to the root", "bad");
  const path = steps.map((hash, level) => el("li", {}, el("code", { title: hash }, hash), level === steps.length - 1 ? " root" : level ? "" : " leaf"));
  return [
    el("p", {}, verdict, ` ${claim.amount_units.toLocaleString()} units of epoch ${claim.epoch}, index ${claim.index}, to `, key(claim.recipient_coldkey)),
    el("details", {}, el("summary", {}, `${steps.length} hashes from the leaf to the root, computed in this browser`), el("div", { class: "scroll" }, el("ol", { class: "small" }, path))),
  ];
}
