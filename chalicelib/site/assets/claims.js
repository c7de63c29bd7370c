import { figures, fill, getJson, poll } from "./site.js";
import { epochTable, newestEpochs, offerEpochs, proofChecker } from "./proof.js";

proofChecker(document.querySelector("#checker"), document.querySelector("#outcome"), () => "");

poll(async () => {
  const [health, found] = await Promise.all([getJson("health"), newestEpochs("")]);
  fill("#figures", figures({
    "Epochs that can be claimed": health.epochs,
    "Default epoch": health.default_epoch ?? "none",
    Simulation: health.simulation_enabled ? "on" : "off",
  }));
  fill("#epochs", epochTable(found));
  offerEpochs(document.querySelector("#epoch"), found);
  return `${health.status}, scheme ${health.scheme}`;
});
