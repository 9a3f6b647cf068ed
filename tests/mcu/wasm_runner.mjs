/* node wasm_runner.mjs FOLDER: for each line "name task windows" of cases.txt, what name.js makes of the counts in
   name.in: forecasts to name.out, labels and flags to name.decided (int32), a detector's scores to name.scores. */
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];
for (const line of readFileSync(`${folder}/cases.txt`, "utf8").trim().split("\n")) {
  const [name, task, windows] = line.split(" ");
  const at = `${folder}/${name}`;
  const module = await import(pathToFileURL(`${at}.js`));
  const model = await module.load(readFileSync(`${at}.wasm`));
  const bytes = readFileSync(`${at}.in`);
  const counts = new Int16Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  const length = (task === "detect" ? module.ROWS : module.CONTEXT) * module.CHANNELS;
  const step = task === "detect" ? module.CHANNELS : length;
  const forecasts = [], decided = [], scores = [];
  let state;
  for (let i = 0; i < Number(windows); i++) {
    const window = counts.subarray(i * step, i * step + length);
    if (task === "classify") {
      const found = model.classify(window);
      decided.push(found.label);
      forecasts.push(...found.scores);
    } else {
      forecasts.push(...model.forecast(window.subarray(0, module.CONTEXT * module.CHANNELS)));
    }
    if (task === "detect") {
      const found = model.detect(window, state);
      decided.push(Number(found.faulty));
      scores.push(found.score);
      state = found.state;
    }
  }
  writeFileSync(`${at}.out`, Int16Array.from(forecasts));
  writeFileSync(`${at}.decided`, Int32Array.from(decided));
  writeFileSync(`${at}.scores`, Float64Array.from(scores));
}
