import { figures, fill, getJson, poll } from "./site.js";
import { claimsSection } from "./proof.js";

const showEpochs = claimsSection(document.querySelector("#claims"), () => "");

poll(async () => {
  const health = await getJson("health");
  await showEpochs(health.simulation_enabled);
  fill("#figures", figures({
    "Epochs that can be claimed": health.epochs,
    "Default epoch": health.default_epoch ?? "none",
    Simulation: health.simulation_enabled ? "on" : "off",
  }));
  return `${health.status}, scheme ${health.scheme}`;
});
