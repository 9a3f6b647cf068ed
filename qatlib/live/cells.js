/* What the cells of a CSV say: times, numbers, or neither. The rules, and the words for a fault, are those of
   qatlib/data/cells.py. */
export const EXAMPLE = "2016-07-01 14:00:00";
const CLOCK = String.raw`(\d{4})[-/](\d\d?)(?:[-/](\d\d?)(?:[T ](\d\d?)(?::(\d\d?)(?::(\d\d?)(?:\.(\d{1,6})0*)?)?)?)?)?`;
const TIME = new RegExp(String.raw`^[ \t]*${CLOCK}[ \t]*$`);
const ZONE = String.raw`(?:Z|(?:UTC|GMT)?[+\-\u2212]\d\d?(?::?\d\d){0,2}|UTC|GMT)`;
const ZONED = new RegExp(String.raw`^[ \t]*${CLOCK}\d*[ \t]*${ZONE}[ \t]*$`, "i");
const NUMBER = /^[ \t]*[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?[ \t]*$/i;
const UNSEEN = /[\p{C}\p{Z}]/u;

export class Fault extends Error {}

/* A cell in quotation marks, as Python shows it. */
export function shown(cell) {
  if (cell === null) return "None";
  const mark = cell.includes("'") && !cell.includes('"') ? '"' : "'";
  const letters = Array.from(cell.slice(0, 60), (c) => {
    return c === "\\" || c === mark ? "\\" + c : escaped(c);
  });
  return mark + letters.join("") + mark + (cell.length > 60 ? ".." : "");
}

/* A text without what steers or turns the line it stands in. */
export function printable(text) {
  return Array.from(text, escaped).join("");
}

function escaped(c) {
  if (c === " " || !UNSEEN.test(c)) return c;
  const at = "\n\r\t".indexOf(c);
  if (at >= 0) return "\\" + "nrt"[at];
  const code = c.codePointAt(0), digits = code.toString(16);
  if (code < 256) return "\\x" + digits.padStart(2, "0");
  return code < 65536 ? "\\u" + digits.padStart(4, "0") : "\\U" + digits.padStart(8, "0");
}

/* -> microseconds since 1970; NaN for what is no time, or carries a zone */
export function parseTime(cell) {
  const found = cell === null ? null : TIME.exec(cell);
  if (!found) return NaN;
  const [year, month, day = 1, hour = 0, minute = 0, second = 0] = found.slice(1, 7).map((x) => x && Number(x));
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day); // Date.UTC takes years before 100 for others
  date.setUTCHours(hour, minute, second);
  const same = date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
  if (!same || hour > 23 || minute > 59 || second > 59) return NaN;
  return date.getTime() * 1000 + Number((found[7] ?? "").padEnd(6, "0"));
}

export function isZoned(cell) {
  return cell !== null && ZONED.test(cell);
}

/* Whether it looks like a time, even with a zone. */
export function isTime(cell) {
  return cell !== null && (TIME.test(cell) || ZONED.test(cell));
}

/* -> the number, NaN for what is none */
export function parseNumber(cell) {
  return cell !== null && NUMBER.test(cell) ? Number(cell) : NaN;
}
