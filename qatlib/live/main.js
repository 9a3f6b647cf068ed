/* The live model's page: what is chosen, shown, moved and dropped. Texts of files reach it as text alone. */
import { Fault } from "./cells.js";
import { Chart } from "./chart.js";
import { ownRows, recorded, table, wanted } from "./data.js";
import { detected, proof, started } from "./model.js";
import { $, decimal, distinct, fill, list, thousands } from "./parts.js";

const VIEW = 120; // rows that are shown at once, where it is not the whole window
const PACE = 100; // milliseconds a row
const { catalogue, recordings, packs } = JSON.parse($("packs").textContent);
const TASKS = { forecast: "Forecast the next values", classify: "Tell a state", detect: "Find faults" };

const page = { model: null, own: null, rows: null, at: 0, channel: 0, timer: 0, turn: 0 };
const chart = new Chart($("chart"), edit, (back, value) => `${ago(back)}: ${said(value)}`);
const scores = new Chart($("scores"));

// -- Choosing

/* The options that there are for what is chosen above them; then that model. */
function offer() {
  fill($("task"), distinct(catalogue, "task", "task").map(([task]) => [task, TASKS[task]]), $("task").value);
  const ofTask = catalogue.filter((entry) => entry.task === $("task").value);
  fill($("shape"), distinct(ofTask, "family", "title"), $("shape").value);
  const ofShape = ofTask.filter((entry) => entry.family === $("shape").value);
  const usual = ofShape.find((entry) => entry.bits === ($("bits").value || "W4A4")) ?? ofShape[0];
  fill($("bits"), ofShape.map((entry) => [entry.bits, `${entry.bits}, ${thousands(entry.size)} bytes`]), usual.bits);
  return choose(ofShape.find((entry) => entry.bits === $("bits").value));
}

async function choose(entry) {
  stop();
  const turn = ++page.turn; // who chooses again meanwhile gets that one
  complain();
  try {
    const pack = packs[entry.key] ?? (packs[entry.key] = await fetched(`models/${entry.key}.json`));
    const model = await started(pack);
    if (turn !== page.turn) return;
    page.model = model;
    fill($("channel"), page.model.channels.map((channel, i) => [String(i), channel.shown]), "0");
    page.channel = 0;
    facts();
    if (!page.own || !useOwn()) useRecording();
    prove();
  } catch (error) {
    complain(`${entry.title}: this model could not be started: ${error.message}`);
  }
}

async function fetched(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path} answers ${answer.status}; is the site whole?`);
  return answer.json();
}

// -- Data

function useRecording() {
  const { model } = page;
  show(recorded(recordings[model.recording], model.channels.length), recordings[model.recording].title);
}

/* Whether the file could be used; what it lacks is said. */
function useOwn() {
  const names = wanted(page.own, page.model, $("column").value);
  const several = page.model.channels.length > 1;
  fill($("column"), several ? [] : page.own.numeric.map((name) => [name, name]), names[0]);
  try {
    const rows = ownRows(page.own, page.model, names);
    show(rows, `${page.own.place}, ${names.join(", ")}: ${thousands(rows.starts.length)} rows, which stay in this browser`);
    return true;
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    complain(error.message);
    return false;
  }
}

async function open(file) {
  stop();
  complain();
  const began = performance.now();
  try {
    page.own = table(new Uint8Array(await file.arrayBuffer()), file.name);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    complain(error.message);
    return;
  }
  if (useOwn()) $("opened").textContent = `Read, judged and forecast in ${Math.round(performance.now() - began)} ms.`;
}

function complain(message = "") {
  $("fault").textContent = message;
  $("opened").textContent = "";
}

function show(rows, title) {
  page.rows = { ...rows, given: rows.counts.slice() };
  $("data").textContent = title;
  $("forget").hidden = !page.rows.times;
  page.whole = [...rows.starts.keys()].filter((i) => i - rows.starts[i] + 1 >= page.model.length);
  $("undo").disabled = true;
  $("place").max = page.whole.length - 1;
  judge();
  $("place").value = opening();
  move();
}

/* Where to begin: a detector where it has found something. */
function opening() {
  if (page.model.task === "forecast") return 0;
  const flagged = page.judged ? page.judged.flags.indexOf(1) : -1;
  return Math.min(page.whole.length - 1, flagged < 0 ? VIEW : page.whole.indexOf(flagged) + VIEW / 4);
}

/* A detector's rows are judged in turn, so that one that is moved changes those after it. */
function judge() {
  page.judged = page.model.task === "detect" ? detected(page.model, page.rows) : null;
}

// -- Showing

function move() {
  page.at = page.whole[Number($("place").value)];
  const time = page.rows.times && new Date(page.rows.times[page.at] / 1000).toISOString().slice(0, 16).replace("T", " ");
  $("place").setAttribute("aria-valuetext", `row ${page.at + 1} of ${page.rows.starts.length}${time ? `, ${time}` : ""}`);
  $("row").textContent = $("place").getAttribute("aria-valuetext");
  render();
}

function render() {
  const { model, rows, at, channel } = page, width = model.channels.length;
  const most = model.task === "detect" ? at - rows.starts[at] + 1 : model.context;
  const shownRows = $("whole").checked ? model.context : Math.min(VIEW, most);
  page.first = at - shownRows + 1;
  const of = (i) => rows.counts[i * width + channel] * model.channels[channel].resolution;
  const past = Array.from({ length: shownRows }, (_, i) => of(page.first + i));
  const window = rows.counts.slice((at - model.context + 1) * width, (at + 1) * width);
  const found = { forecast, classify, detect }[model.task](window, of, shownRows);
  chart.draw({ past, length: shownRows, unit: unit(), step: model.step, ...found });
}

function forecast(window, of, shownRows) {
  const { model, rows, at } = page, counts = model.run.forecast(window), float = [...(model.float?.(window) ?? [])];
  const values = Array.from(counts, (count) => count * model.channels[0].resolution);
  let known = 0;
  while (known < model.horizon && rows.starts[at + known + 1] === rows.starts[at]) known++;
  const truth = Array.from({ length: known }, (_, i) => of(at + 1 + i)), last = shownRows - 1;
  const steps = Array.from(counts, (count, i) => [`+${i + 1}`, thousands(count), ...float.slice(i, i + 1).map(decimal),
    said(values[i]), i < known ? said(truth[i]) : "–"]);
  list([`${model.step} ahead`, "count, the integer", ...floatHead(), `value, count × ${model.channels[0].resolution}`, "what came"],
    steps);
  const ends = values.length > 1 ? `${said(Math.min(...values))} to ${said(Math.max(...values))}` : said(values[0]);
  tell(`Forecast of the next ${model.horizon === 1 ? model.step : `${model.horizon} ${model.step}s`}: ${ends}.`);
  return { length: shownRows + model.horizon,
    lines: [{ kind: "truth", from: last, values: [of(at), ...truth] }, { kind: "found", from: last + 1, values },
      { kind: "float", from: last + 1, values: float.map((count) => count * model.channels[0].resolution) }] };
}

function classify(window) {
  const { model, rows, at } = page, { label, scores: found } = model.run.classify(window);
  const float = [...(model.float?.(window) ?? [])];
  list(["state", "score, an integer", ...floatHead(), ""], model.labels.map((name, i) =>
    [name, thousands(found[i]), ...float.slice(i, i + 1).map(decimal), i === label ? "decided" : ""]));
  const truth = rows.labels ? ` In truth: ${model.labels[rows.labels[at]]}.` : "";
  tell(`Decided: ${model.labels[label]}.${truth}`);
  return {};
}

function detect() {
  const { model, rows, at, first, judged } = page, range = Array.from({ length: at - first + 1 }, (_, i) => first + i);
  const where = (of) => range.filter((i) => of?.[i]).map((i) => i - first);
  const score = judged.scores[at];
  list(["row", "score, an integer", "threshold", "flag"],
    range.slice(-8).reverse().map((i) => [ago(at - i), thousands(judged.scores[i]), thousands(model.threshold),
      judged.flags[i] ? "faulty" : "sound"]));
  const truth = rows.labels ? ` In truth: ${rows.labels[at] ? "faulty" : "sound"}.` : "";
  tell(`This row is ${judged.flags[at] ? "faulty" : "sound"}: its score is ${thousands(score)}, the threshold ${thousands(model.threshold)}.${truth}`);
  const values = range.map((i) => judged.scores[i]), begin = values.findIndex((x) => !Number.isNaN(x));
  scores.draw({ past: values.map((x) => (Number.isNaN(x) ? values[begin] : x)), length: range.length, unit: "score", step: model.step, limit: model.threshold });
  return { marked: [{ kind: "true", at: where(rows.labels) }, { kind: "flag", at: where(judged.flags) }] };
}

function floatHead() {
  return page.model.float ? ["in floating point, nothing rounded"] : [];
}

function tell(text) {
  if (page.timer) $("told").textContent = text; // seen, not spoken
  else if ($("summary").textContent !== text) $("summary").textContent = text;
  $("told").hidden = !page.timer;
  $("summary").hidden = Boolean(page.timer);
}

function facts() {
  const { model } = page;
  $("stored").textContent = `${thousands(model.size_bytes)} bytes`;
  $("module").textContent = `${thousands(model.wasm_bytes)} bytes, the code with it`;
  $("takes").textContent = `${model.context} samples of ${model.channels.length > 1 ? `${model.channels.length} channels` : "one channel"}, 16 bits each`;
  $("error").textContent = model.error ?? "–";
  $("about").textContent = model.about;
  $("costs").replaceChildren(...model.costs.map(({ chip, number, what, evidence }) => {
    const row = document.createElement("tr");
    row.append(...[chip, `${thousands(number)} ${what}`, evidence].map((text, i) =>
      Object.assign(document.createElement(i ? "td" : "th"), { textContent: text, scope: i ? "" : "row" })));
    return row;
  }));
  $("whole").closest("label").hidden = model.task === "detect" || model.context <= VIEW;
  $("whole").checked &&= model.task !== "detect";
  $("legend").dataset.task = $("scores").dataset.task = model.task;
}

async function prove() {
  const { model } = page;
  $("proof").dataset.state = "running";
  $("verdict").textContent = `Computing ${thousands(model.windows)} windows …`;
  $("here").textContent = "…";
  $("committed").textContent = model.sha256;
  const { digest, outputs, seconds } = await proof(model, model.walks ? null : recordings[model.recording]);
  if (page.model !== model) return;
  const equal = digest === model.sha256;
  $("here").textContent = digest;
  $("proof").dataset.state = equal ? "equal" : "different";
  $("verdict").textContent = `${equal ? "✓ Equal" : "✗ Different"}: ${thousands(outputs)} outputs of ${thousands(model.windows)} windows` +
    `${model.walks ? " of random walks" : ""}, computed here in ${seconds.toFixed(2)} s.`;
}

// -- Moving

function edit(moved) {
  const { model, rows, channel, first } = page, width = model.channels.length, { resolution } = model.channels[channel];
  for (const [i, value] of moved) {
    rows.counts[(first + i) * width + channel] = Math.max(-32768, Math.min(32767, Math.floor(value / resolution + 0.5)));
  }
  $("undo").disabled = false;
  judge();
  render();
}

function undo() {
  page.rows.counts.set(page.rows.given);
  $("undo").disabled = true;
  judge();
  render();
}

function stop() {
  clearInterval(page.timer);
  page.timer = 0;
  $("play").textContent = "Play";
  if (page.rows) render();
}

function play() {
  if (page.timer) return stop();
  $("play").textContent = "Pause";
  if ($("place").value === $("place").max) $("place").value = 0;
  page.timer = setInterval(() => {
    if ($("place").value === $("place").max) return stop();
    $("place").value = Number($("place").value) + 1;
    move();
  }, PACE);
}

// -- Words

function ago(rows) {
  return rows ? `${rows} ${page.model.step}${rows > 1 ? "s" : ""} ago` : "now";
}

function unit() {
  return page.model.channels[page.channel].unit;
}

function said(value) {
  const { resolution } = page.model.channels[page.channel];
  const text = resolution < 1e-4 ? value.toPrecision(4) : value.toFixed(Math.max(0, Math.ceil(-Math.log10(resolution))));
  return `${text.replace("-", "−")} ${unit()}`.trim();
}

// -- Events

for (const id of ["task", "shape", "bits"]) $(id).addEventListener("change", offer);
$("channel").addEventListener("change", () => ((page.channel = Number($("channel").value)), render()));
$("column").addEventListener("change", () => (complain(), useOwn()));
$("place").addEventListener("input", () => (stop(), move()));
$("whole").addEventListener("change", render);
$("play").addEventListener("click", play);
$("undo").addEventListener("click", undo);
$("forget").addEventListener("click", () => ((page.own = null), fill($("column"), [], ""), complain(), useRecording()));
$("file").addEventListener("change", () => $("file").files.length && open($("file").files[0]));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
});
page.ready = offer();
