import { badge, el, fill, getJson, marked } from "./site.js";

const nameOf = (reference) => reference.split("/").at(-1);

/** A schema in one line, linking to the named ones. */
function kind(schema) {
  if (!schema) return "anything";
  if (schema.$ref) return el("a", { href: `#schema-${nameOf(schema.$ref)}` }, nameOf(schema.$ref));
  if (schema.anyOf) return schema.anyOf.flatMap((option, index) => (index ? [" or ", kind(option)] : [kind(option)])).flat();
  if (schema.type === "array") return ["list of ", kind(schema.items)].flat();
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const limits = ["minimum", "maximum", "minLength", "maxLength", "pattern", "default"]
    .filter((rule) => schema[rule] !== undefined).map((rule) => `${rule} ${JSON.stringify(schema[rule])}`);
  return [schema.type ?? "object", schema.format, ...limits].filter(Boolean).join(", ");
}

function rows(caption, list) {
  return el("table", {}, el("caption", {}, caption), el("tbody", {}, list.map(([name, type, text]) =>
    el("tr", {}, el("th", { scope: "row", class: "mono" }, name), el("td", {}, type), el("td", { class: "quiet" }, marked(text))))));
}

function operation(path, method, spec) {
  const parts = [];
  if (spec.description) parts.push(el("p", {}, marked(spec.description)));
  for (const need of spec.security ?? []) parts.push(el("p", { class: "small" }, badge("signed", "warn"), " ", Object.keys(need).join(", ")));
  if (spec.parameters?.length) parts.push(rows("Parameters", spec.parameters.map((parameter) =>
    [`${parameter.name} (${parameter.in}${parameter.required ? "" : ", optional"})`, kind(parameter.schema), parameter.description])));
  const body = spec.requestBody?.content;
  if (body) parts.push(rows("Body", Object.entries(body).map(([type, content]) => [type, kind(content.schema), ""])));
  parts.push(rows("Answers", Object.entries(spec.responses).map(([status, answer]) =>
    [status, Object.values(answer.content ?? {}).flatMap((content) => kind(content.schema)), answer.description])));
  return el("details", { class: "operation", "data-words": `${method} ${path} ${spec.summary}`.toLowerCase() },
    el("summary", {}, el("span", { class: "method" }, method.toUpperCase()), el("code", {}, path), el("span", { class: "quiet" }, marked(spec.summary))),
    el("div", {}, parts));
}

function schemaCard(name, schema) {
  const required = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties ?? {}).map(([field, shape]) =>
    [required.has(field) ? field : `${field} (optional)`, kind(shape), shape.description]);
  return el("details", { class: "operation", id: `schema-${name}` }, el("summary", {}, el("code", {}, name)),
    el("div", {}, schema.description ? el("p", {}, marked(schema.description)) : null, rows("Fields", fields)));
}

const status = document.querySelector("#status");
try {
  const spec = await getJson("openapi.json");
  document.title = `${spec.info.title} · API reference`;
  fill("#title", `${spec.info.title} API`);
  fill("#description", marked(spec.info.description));
  fill("#operations", Object.entries(spec.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operationSpec]) => operation(path, method, operationSpec))));
  fill("#schemas", Object.entries(spec.components.schemas).map(([name, schema]) => schemaCard(name, schema)));
  status.dataset.state = "fresh";
  status.textContent = `version ${spec.info.version}, base URL ${new URL(".", location.href).pathname}`;
} catch (error) {
  status.dataset.state = "down";
  status.textContent = error.message;
}

document.querySelector("#filter").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  for (const entry of document.querySelectorAll("#operations details")) entry.hidden = !entry.dataset.words.includes(wanted);
});
addEventListener("hashchange", () => { const target = document.querySelector(location.hash); if (target?.tagName === "DETAILS") target.open = true; });
