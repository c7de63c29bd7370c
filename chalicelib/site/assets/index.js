import { badge, el, fill, getJson, poll } from "./site.js";

const WHAT = {
  prism: "Who invents architectures, and who trains them best.",
  pool: "Programs evolved and judged together, and claims on the rewards.",
  experts: "Slices of a mixture-of-experts model, trained and merged.",
  bitrecs: "Prompts that recommend products, scored by validators.",
  leoma: "Image to video, ranked by the verdict of staked validators.",
  claims: "Merkle claims on the epochs of a pool.",
};

function card(mount, health) {
  const path = (name) => mount[name].replace(/^\//, "");
  const kind = health === "healthy" || health === "ok" ? "good" : health === "unreachable" ? "bad" : "warn";
  return el("li", { class: "card" },
    el("h2", {}, mount.title, " ", badge(health, kind)),
    el("p", {}, WHAT[mount.name] ?? ""),
    el("p", { class: "quiet small" }, "Base URL ", el("code", {}, mount.path)),
    el("p", { class: "tools" },
      el("a", { class: "button", href: path("dashboard") }, "Dashboard"),
      el("a", { class: "button", href: path("docs") }, "API reference"),
      el("a", { class: "button", href: path("openapi") }, "OpenAPI")));
}

poll(async () => {
  const { mounts, version } = await getJson("mounts.json");
  const states = await Promise.all(mounts.map((mount) =>
    getJson(mount.health.replace(/^\//, "")).then((body) => body.status ?? "ok", () => "unreachable")));
  fill("#systems", mounts.map((mount, index) => card(mount, states[index])));
  return `version ${version}, ${mounts.length} ${mounts.length === 1 ? "system" : "systems"}`;
}, { seconds: 60 });
