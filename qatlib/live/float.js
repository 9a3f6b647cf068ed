/* A model's program in floating point: the same weights, the same limits, and nothing rounded. It is what the integers
   stand for, and shows what rounding costs. */
import { bytesOf } from "./data.js";

const KINDS = { U8: Uint8Array, U16: Uint16Array, I32: Int32Array, U32: Uint32Array };

/* program: a model's file as base64 -> (Int16Array window) => Float64Array, in counts */
export function unrounded(program) {
  const { document, arrays } = opened(bytesOf(program)), { tensors, operations, channels } = document;
  return (window) => {
    const last = window.length - channels.length;
    const anchors = channels.map(({ anchor }, c) => anchor ?? window[last + c]);
    const source = Float64Array.from(window, (count, i) => count - anchors[i % channels.length]);
    const found = {};
    for (const { kind, path, inputs, output, attributes } of operations.slice(0, -1)) {
      const array = (name) => arrays[`${path}.${name}`];
      const given = inputs.map((name) => ({ x: found[name], ...tensors[name] }));
      found[output] = STEPS_OF[kind]({ array, given, source, out: tensors[output], ...attributes });
    }
    const { path, inputs } = operations.at(-1), zero = tensors[inputs[0]].zero_point;
    const added = document.task === "classify" ? [0] : document.targets.map((i) => anchors[i]);
    const [m, n] = [arrays[`${path}.m`], arrays[`${path}.n`]];
    return found[inputs[0]].map((q, i) => ((q - zero) * m[i % m.length]) / 2 ** n[i % n.length] + added[i % added.length]);
  };
}

/* The safetensors format: the length of a JSON header, the header, the arrays. */
function opened(bytes) {
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const { __metadata__: facts, ...table } = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const arrays = {};
  for (const [name, { dtype, data_offsets: [from, to] }] of Object.entries(table)) {
    arrays[name] = new KINDS[dtype](bytes.slice(8 + length + from, 8 + length + to).buffer);
  }
  return { document: JSON.parse(facts.model), arrays };
}

function limited(value, { low, high }) {
  return Math.max(low, Math.min(high, value));
}

/* acc: an accumulator -> codes, by the multipliers of each channel */
function scaled(acc, array, out) {
  const [m, n] = [array("m"), array("n")];
  return acc.map((a, i) => limited(out.zero_point + (a * m[i % m.length]) / 2 ** n[i % n.length], out));
}

/* Signed codes of some bits each, the lowest first, end to end. */
function unpacked(packed, bits, count) {
  return Float64Array.from({ length: count }, (_, i) => {
    let code = 0;
    for (let b = 0; b < bits; b++) code |= ((packed[(i * bits + b) >> 3] >> ((i * bits + b) & 7)) & 1) << b;
    return (code << (32 - bits)) >> (32 - bits);
  });
}

function added(x, y, array, out) {
  const [m1, m2, c, n] = ["m1", "m2", "c", "n"].map(array), width = c.length;
  return x.map((a, i) => {
    const k = i % width; // c holds the half that rounds
    return limited(out.zero_point + (m1[k] * a + m2[k] * y[i] + c[k] - 2 ** (n[k] - 1)) / 2 ** n[k], out);
  });
}

const size = (shape) => shape.reduce((a, b) => a * b, 1);
const STEPS_OF = {
  quantise: ({ source, array, out }) => scaled(source, array, out),
  reshape: ({ given: [{ x }] }) => x,
  requantise: ({ given: [{ x, zero_point }], array, out }) => scaled(x.map((q) => q - zero_point), array, out),
  add: ({ given: [a, b], array, out }) => added(a.x, b.x, array, out),
  add_position: ({ given: [{ x }], array, out, position_bits: bits }) =>
    added(x, unpacked(array("position"), bits, x.length), array, out),
  linear({ given: [{ x, shape }], array, out, weight_bits: bits }) {
    const wide = shape.at(-1), bias = array("bias"), weight = unpacked(array("weight"), bits, wide * bias.length);
    const acc = Float64Array.from({ length: size(out.shape) }, (_, i) => {
      const token = Math.floor(i / bias.length) * wide, row = (i % bias.length) * wide;
      let sum = bias[i % bias.length];
      for (let k = 0; k < wide; k++) sum += x[token + k] * weight[row + k];
      return sum;
    });
    return scaled(acc, array, out);
  },
  scores({ given: [query, key], array, out, heads }) {
    const [, rows, columns] = out.shape, wide = query.shape.at(-1), part = wide / heads;
    const acc = Float64Array.from({ length: size(out.shape) }, (_, i) => {
      const head = Math.floor(i / columns / rows) * part, row = (Math.floor(i / columns) % rows) * wide + head;
      const column = (i % columns) * wide + head;
      let sum = 0;
      for (let k = 0; k < part; k++) sum += query.x[row + k] * key.x[column + k];
      return sum;
    });
    return scaled(acc, array, out);
  },
  softmax({ given: [{ x }], array, out }) {
    const table = array("table"), columns = out.shape.at(-1), found = new Float64Array(x.length);
    const rate = rateOf(table), share = array("numerator")[0] / 2 ** array("k")[0];
    for (let at = 0; at < x.length; at += columns) {
      const row = x.subarray(at, at + columns), most = Math.max(...row);
      const weights = row.map((score) => Math.exp(-rate * (most - score))), sum = weights.reduce((a, b) => a + b);
      found.set(weights.map((w) => Math.min(out.high, (w / sum) * share)), at);
    }
    return found;
  },
  context({ given: [probabilities, value], array, out, heads }) {
    const [, rows, columns] = probabilities.shape, wide = out.shape.at(-1), part = wide / heads;
    const acc = Float64Array.from({ length: size(out.shape) }, (_, i) => {
      const channel = i % wide, row = (Math.floor(channel / part) * rows + Math.floor(i / wide)) * columns;
      let sum = 0;
      for (let k = 0; k < columns; k++) sum += probabilities.x[row + k] * value.x[k * wide + channel];
      return sum;
    });
    return scaled(acc, array, out);
  },
  pool({ given: [{ x, shape, zero_point }], array, out }) {
    const wide = shape.at(-1), acc = new Float64Array(wide);
    x.forEach((q, i) => (acc[i % wide] += q - zero_point));
    return scaled(acc, array, out);
  },
  placeholders({ given: [{ x }], out, label }) {
    const wide = out.shape.at(-1), found = new Float64Array(size(out.shape)).fill(out.zero_point);
    found.set(x.subarray(x.length - label * wide));
    return found;
  },
  last_tokens: ({ given: [{ x }], out }) => x.subarray(x.length - size(out.shape)),
};

/* What a score of 1 divides by, exp(2^-e), of the table that holds it rounded. */
function rateOf(table) {
  const fits = (e) => table.every((t, j) => t === Math.floor(255 * Math.exp(-j * 2 ** -e) + 0.5));
  for (let e = -8; e < 24; e++) if (fits(e)) return 2 ** -e;
  throw new Error("a softmax of another kind");
}
