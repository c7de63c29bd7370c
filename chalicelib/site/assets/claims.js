import { figures, fill, poll } from "./site.js";
import { claimsSection, exactJson } from "./proof.js";

const showEpochs = claimsSection(document.querySelector("#claims"), () => "");

poll(async () => {
  const health = await exactJson("health", ["default_epoch"]);
  await showEpochs(health.simulation_enabled);
  fill("#figures", figures({
    "Epochs that can be claimed": health.epochs,
    "Default epoch": health.default_epoch ?? "none",
    Simulation: health.simulation_enabled ? "on" : "off",
  }));
  return `${health.status}, scheme ${health.scheme}`;
});
