/* A user's CSV, read in the browser: header and records. The rules, and the words for a fault, are those of
   qatlib/data/csv_file.py. */
import { EXAMPLE, Fault, isTime, parseNumber, shown } from "./cells.js";

const LONGEST = 1 << 20; // characters of a line
const LARGEST = 1 << 17; // of a cell
const TIME_NAMES = ["date", "time", "timestamp", "datetime"];
const DATED = /^[ \t"]*\d{4}[-/]\d/;
const CELL = / *(?:"[^"]*(?:""[^"]*)*"|[^",\r\n][^,\r\n]*|),/y;

/* bytes: Uint8Array; place: the file's name -> {header, records: [{line, cells}, ..]}; cells of a record that is too
   short or too long are null. Fault for what is no comma-separated UTF-8 file with a header. */
export function read(bytes, place) {
  const found = recordsOf(bytes, place), head = found.next().value;
  const header = (head?.cells ?? []).map((name) => name.trim());
  if (!header.length) {
    throw new Fault(`${place} is empty; a header line with column names and one line per sample are needed`);
  }
  if (header.length < 2) {
    throw new Fault(
      `${place}, line ${head.line}: one column only (${shown(header[0])}); a CSV separated by commas is needed`
    );
  }
  const records = [...found];
  if (!records.length) throw new Fault(`${place}: a header, but no data below it`);
  for (const record of records) if (record.cells.length !== header.length) record.cells = null;
  return { header, records };
}

/* {line, cells} of every record that is not blank; lines count as in an editor. */
function* recordsOf(bytes, place) {
  const { lines, broken } = linesOf(bytes);
  let width = 0;
  for (let at = 0; at < lines.length; ) {
    const first = at, cells = [];
    const wrong = (what) => {
      const line = first + openAt(lines.slice(first, at)) + 1;
      return new Fault(`${place}, line ${line}: no CSV (${what}); is a quotation mark left open, or one too many?`);
    };
    const next = () => {
      const line = lines[at++];
      if (broken.test(line) || line.length >= LONGEST) {
        const what = line.length < LONGEST ? "no UTF-8 text" : `a line of more than ${LONGEST} characters`;
        throw new Fault(`${place}, line ${at}: this is ${what}; save the file as a CSV in UTF-8`);
      }
      if (at - first > 1 && isRecord(line, width)) {
        throw wrong(`line ${at} looks like a row, and would be lost in a cell`);
      }
      return line;
    };
    split(next, () => at < lines.length, wrong, cells);
    if (cells.length > 1 || cells[0].replace(/^[ \t]+|[ \t]+$/g, "")) {
      width ||= cells.length;
      yield { line: first + 1, cells };
    }
  }
}

/* -> the lines, and what shows one that is no text */
function linesOf(bytes) {
  let broken = /\0/, text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    text = new TextDecoder("utf-8").decode(bytes);
    broken = /[\0\ufffd]/; // the second stands where nothing could be read
  }
  return { lines: text.match(/[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$/g) ?? [], broken };
}

/* One record into cells, as Python's csv does with strict and skipinitialspace. */
function split(next, more, wrong, cells) {
  let line = next(), i = 0;
  for (;;) {
    while (line[i] === " ") i++;
    let cell = "";
    if (line[i] === '"') {
      for (i++; ; ) {
        const end = line.indexOf('"', i);
        cell += line.slice(i, end < 0 ? undefined : end);
        if (cell.length > LARGEST) throw wrong(`field larger than field limit (${LARGEST})`);
        if (end < 0) {
          if (!more()) throw wrong("unexpected end of data");
          line = next();
          i = 0;
        } else if (line[end + 1] === '"') {
          cell += '"';
          i = end + 2;
        } else {
          i = end + 1;
          break;
        }
      }
      if (i < line.length && !",\r\n".includes(line[i])) throw wrong("',' expected after '\"'");
    } else {
      const end = line.slice(i).search(/[,\r\n]/);
      cell = line.slice(i, end < 0 ? undefined : i + end);
      if (cell.length > LARGEST) throw wrong(`field larger than field limit (${LARGEST})`);
      i += cell.length;
    }
    cells.push(cell);
    if (line[i++] !== ",") return;
  }
}

function isRecord(line, width) {
  const cells = line.split(",");
  return (0 < width && width <= cells.length) || cells.some((cell) => DATED.test(cell));
}

/* Which of the lines of an unfinished record holds the mark that opens its last cell. */
function openAt(lines) {
  const text = lines.join("");
  let at = 0;
  for (CELL.lastIndex = 0; CELL.test(text); ) at = CELL.lastIndex;
  let seen = 0;
  const found = lines.findIndex((line) => (seen += line.length) > at);
  return found < 0 ? lines.length - 1 : found;
}

/* -> {time, numeric}: the name of the first column that holds times, and those of all with a number among their first
   cells. Fault where there is no column of times, or no header. */
export function columns({ header, records }, place) {
  const head = records.slice(0, 100).map((record) => record.cells);
  const cell = (row, i) => (row ? row[i] : null);
  const timed = header.filter((_, i) => head.filter((row) => isTime(cell(row, i))).length > head.length / 2);
  const called = header.filter((name) => TIME_NAMES.includes(name.toLowerCase()));
  const both = called.filter((name) => timed.includes(name));
  const choices = both.length ? both : timed.length ? timed : called;
  const listed = `its columns are ${header.slice(0, 50).map(shown).join(", ")}${header.length > 50 ? ", .." : ""}`;
  if (!choices.length) throw new Fault(`${place}: no column of times such as ${EXAMPLE}; ${listed}`);
  const time = choices[0];
  if (isTime(time)) {
    throw new Fault(
      `${place}: its first line holds data, not column names; add a header line such as date,value`
    );
  }
  const others = header.filter((name) => name !== time);
  if (!others.length) throw new Fault(`${place}: no column of numbers; ${listed}`);
  const numbers = (name) => head.some((row) => Number.isFinite(parseNumber(cell(row, header.indexOf(name)))));
  const numeric = [...new Set(others.filter(numbers))];
  return { time, numeric: numeric.length ? numeric : others.slice(0, 1) };
}

/* The cells of columns, by name -> [[cell or null, ..] of each column]. Fault for one that is not there, or twice. */
export function take({ header, records }, names, place) {
  for (const name of names) {
    const often = header.filter((other) => other === name).length;
    if (!often) {
      throw new Fault(`${place}: no column ${shown(name)}, which this model reads; its columns are ` +
        header.slice(0, 50).map(shown).join(", "));
    }
    if (often > 1) throw new Fault(`${place}: ${often} columns are named ${shown(name)}; rename all but one`);
  }
  return names.map((name) => records.map(({ cells }) => (cells ? cells[header.indexOf(name)] : null)));
}
