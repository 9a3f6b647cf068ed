/* Rows of a CSV, judged: every fault names the line as an editor shows it, the column and the way out. The rules are
   those of qatlib/data/cleaning.py. */
import { EXAMPLE, Fault, isZoned, parseNumber, parseTime, printable, shown } from "./cells.js";

const MIN_ROWS = 10;
const FAR = 100, FAR_SENTINEL = 3; // times the span from the 5th to the 95th percentile
const LIMITS = new Set([2 ** 15 - 1, 2 ** 15, 2 ** 16 - 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]);
const BEYOND = 1e18; // more than sensors read
const NINES = /^(9{2,}(\.9+)?|10{9,}|1e\+(09|[1-9]\d))$/;

/* lines: of each row in the file; names, cells: the column of times, then those of numbers -> {times: microseconds,
   values: a Float64Array a column, step}. */
export function check(lines, names, cells, place) {
  const [clocks] = cells;
  const times = clocks.map(parseTime), untimed = times.map((t, i) => Number.isNaN(t) && clocks[i] !== null);
  const zoned = clocks.find((clock, i) => untimed[i] && isZoned(clock));
  if (zoned !== undefined) {
    throw new Fault(`${place}: times in column ${shown(names[0])} carry a time zone (${shown(zoned)}); bring them ` +
      "to one clock and leave the zone out");
  }
  whole(names[0], clocks, times.map(Number.isNaN), `time such as ${EXAMPLE}`, place);
  const faults = [
    ["another number of cells than the header has", clocks.map((c) => c === null), 1],
    [`no time such as ${EXAMPLE} in column ${shown(names[0])}`, untimed, 1],
  ];
  const sound = clocks.map((c, i) => c !== null && !untimed[i]), values = [];
  for (let c = 1; c < names.length; c++) {
    const found = Float64Array.from(cells[c], parseNumber), missing = Array.from(found, (x) => !Number.isFinite(x));
    whole(names[c], cells[c], missing, "finite number", place);
    const distant = lacking(found.map((x, i) => (untimed[i] ? NaN : x)), missing);
    const where = `in column ${shown(names[c])}`;
    for (const [what, mask] of [
      [`no finite number ${where}`, missing],
      [`so far from all others that it must be a placeholder or a mistake ${where}`, distant],
    ]) {
      faults.push([what, mask.map((x, i) => x && sound[i]), c]);
      mask.forEach((x, i) => (sound[i] &&= !x));
    }
    values.push(found);
  }
  if (times.length < MIN_ROWS) {
    throw new Fault(`${place}: ${times.length} rows are too few; give at least ${MIN_ROWS}, and for windows many more`);
  }
  faults.push(["earlier than the row before it", times.map((t, i) => t < times[i - 1]), 1]);
  faults.push(["same time as the row before it", times.map((t, i) => t === times[i - 1]), 1]);
  for (const [what, mask, c] of faults) {
    const at = mask.indexOf(true);
    if (at < 0) continue;
    const beside = [0, c].filter((k) => cells[k][at] !== null).map((k) => `${printable(names[k])}=${shown(cells[k][at])}`);
    const where = [`line ${lines[at]}`, ...beside].join(", "), often = mask.filter(Boolean).length;
    throw new Fault(`${place}, ${where}: ${what} (rows like this: ${often}); correct the file`);
  }
  return { times, values, step: period(times, names[0], place) };
}

/* Fault where a whole column is bad. */
function whole(name, cells, bad, wanted, place) {
  const first = cells.find((cell) => cell !== null);
  if (first === undefined || !bad.every(Boolean)) return;
  throw new Fault(`${place}: column ${shown(name)} holds no ${wanted}; its first cell is ${shown(first)}; correct it, ` +
    "or choose another column");
}

/* Where a value is a placeholder, as -999 is, or none that a sensor read. */
function lacking(values, missing) {
  const at = [...values.keys()].filter((i) => Number.isFinite(values[i]));
  const found = far(at.map((i) => values[i])), mask = missing.map(() => false);
  at.forEach((i, k) => (mask[i] = found[k] && !missing[i]));
  return mask;
}

function far(values) {
  if (!values.length) return [];
  const often = new Map();
  for (const x of values) often.set(x, (often.get(x) ?? 0) + 1);
  const fills = new Set([...often.keys()].filter((x) => isSentinel(Math.abs(x))));
  const few = 2 * fills.size <= often.size, sentinel = (x) => few && fills.has(x);
  const strong = (x) => sentinel(x) && (x < 0 || x > 100);
  const weak = Float64Array.from(values.filter((x) => !strong(x))).sort();
  const [low, middle, high] = [5, 50, 95].map((p) => percentile(weak, p));
  const beyond = (x, spans) => high > low && Math.abs(x - middle) > spans * (high - low);
  const count = (test) => values.reduce((n, x) => n + test(x), 0);
  const spread = count((x) => beyond(x, FAR_SENTINEL) && !sentinel(x));
  const spans = count(strong) <= 2 * spread ? FAR : FAR_SENTINEL;
  const others = weak.filter((x) => !sentinel(x) && !beyond(x, spans));
  const [least, most] = others.length ? [others[0], others[others.length - 1]] : [low, high];
  const span = high > low ? high - low : most - least;
  return values.map((x) => {
    const gap = x < least ? least - x : x - most, tail = x < least ? middle - least : most - middle;
    const clear = Math.abs(x - middle) > FAR_SENTINEL * span || (strong(x) && often.get(x) > 1);
    const apart = clear && gap > Math.max(span, 2 * tail) && span > 0;
    return beyond(x, FAR) || (sentinel(x) && (apart || (x < 0 && least >= 0)));
  });
}

/* Whether a magnitude fills gaps: in nines, also as a float of 32 bits has them, a power of ten, a limit of integers,
   too large. */
function isSentinel(x) {
  if (LIMITS.has(x) || x >= BEYOND) return true;
  const leading = x / 10 ** Math.floor(Math.log10(x));
  if (!((leading > 9.89 && x > 98) || (leading < 1.0001 && x > 9e8))) return false;
  return [15, 7].some((digits) => NINES.test(general(x, digits)));
}

/* As %g of C. */
function general(x, digits) {
  const exponent = Math.floor(Math.log10(Number(x.toPrecision(digits))));
  if (exponent < digits) return String(Number(x.toPrecision(digits)));
  const [mantissa, power] = x.toExponential(digits - 1).split("e+");
  return `${Number(mantissa)}e+${power.padStart(2, "0")}`;
}

function percentile(sorted, p) {
  const at = ((sorted.length - 1) * p) / 100, i = Math.floor(at);
  return sorted[i] + ((sorted[i + 1] ?? sorted[i]) - sorted[i]) * (at - i);
}

/* The commonest step; steps that differ from it are gaps. */
function period(times, name, place) {
  const often = new Map();
  for (let i = 1; i < times.length; i++) {
    const step = times[i] - times[i - 1];
    often.set(step, (often.get(step) ?? 0) + 1);
  }
  const [step, most] = [...often].sort((a, b) => b[1] - a[1] || a[0] - b[0])[0];
  if (2 * most < times.length - 1) {
    throw new Fault(`${place}: column ${shown(name)} has no sampling period: its commonest step, ${step / 1e6} seconds, ` +
      `is ${most} of ${times.length - 1}; resample it first`);
  }
  return step;
}
