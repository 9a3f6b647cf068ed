/* Rows that a model is shown, in counts: a recording that ships with it, or a file of one's own. */
import { Fault, printable, shown } from "./cells.js";
import { columns, read, take } from "./csv.js";
import { check } from "./rows.js";

/* base64 -> Uint8Array */
export function bytesOf(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

export function int16(text) {
  return new Int16Array(bytesOf(text).buffer);
}

/* A recording -> {counts, labels, starts, times}: starts[i] is the first row of the gapless stretch that row i is in. */
export function recorded({ rows, labels }, channels) {
  const counts = int16(rows), n = counts.length / channels;
  return { counts, labels: labels && int16(labels), starts: new Int32Array(n), times: null };
}

/* A file's text, ready for any model: Fault where it is no CSV. */
export function table(bytes, name) {
  const place = printable(name), parsed = read(bytes, place);
  return { place, parsed, ...columns(parsed, place) };
}

/* The columns of a table that a model reads: one that is chosen, or those of its channels' names. */
export function wanted({ numeric }, model, chosen) {
  if (model.channels.length > 1) return model.channels.map((channel) => channel.name);
  return [numeric.includes(chosen) ? chosen : numeric[0]];
}

/* A table's rows in a model's counts. Fault names line, column and way out. */
export function ownRows({ place, parsed, time }, model, names) {
  const lines = parsed.records.map((record) => record.line), all = [time, ...names];
  const { times, values, step } = check(lines, all, take(parsed, all, place), place);
  const width = names.length, counts = new Int16Array(times.length * width), starts = new Int32Array(times.length);
  values.forEach((column, c) => {
    const { resolution } = model.channels[c], most = 32767 * resolution;
    column.forEach((value, i) => {
      const scaled = value / resolution;
      if (!(scaled >= -32768.5 && scaled < 32767.5)) {
        throw new Fault(`${place}, line ${lines[i]}: ${value} in column ${shown(names[c])} is outside the sensor's ` +
          `range of ±${Number(most.toPrecision(6))}, which this model's ${resolution} a count allows; give the values ` +
          "in another unit, or choose another column");
      }
      counts[i * width + c] = Math.floor(scaled + 0.5);
    });
  });
  for (let i = 1; i < times.length; i++) starts[i] = times[i] - times[i - 1] === step ? starts[i - 1] : i;
  const need = model.length, whole = starts.reduce((n, start, i) => n + (i - start + 1 >= need), 0);
  if (!whole) {
    const rows = times.length, gaps = rows >= need ? `, and gaps cut all ${rows - need + 1} windows` : "";
    throw new Fault(`${place}: too few rows: no window of ${need} samples fits its ${rows} rows${gaps}; take a model ` +
      "with a smaller window, or more data");
  }
  return { counts, labels: null, starts, times };
}
