/* node csv_runner.mjs < a JSON list of files as base64: of each [rows, step, last value], or its fault. */
import { readFileSync } from "node:fs";
import { Fault } from "../../qatlib/live/cells.js";
import { columns, read, take } from "../../qatlib/live/csv.js";
import { check } from "../../qatlib/live/rows.js";

const place = "sensor.csv";

function judged(bytes) {
  const table = read(bytes, place), { time, numeric } = columns(table, place);
  const names = [time, numeric.includes("value") ? "value" : numeric[0]];
  const lines = table.records.map((record) => record.line);
  const { times, values, step } = check(lines, names, take(table, names, place), place);
  return [times.length, step, values[0].at(-1)];
}

const files = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(files.map((file) => {
  try {
    return judged(new Uint8Array(Buffer.from(file, "base64")));
  } catch (error) {
    if (error instanceof Fault) return error.message;
    throw error;
  }
})));
