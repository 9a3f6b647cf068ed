/* A shipped model in this browser: its WebAssembly, and the proof that it computes what NumPy does. */
import { bytesOf, int16 } from "./data.js";
import { sha256 } from "./digest.js";
import { unrounded } from "./float.js";
import { walks } from "./walks.js";

/* pack: a model's facts and bytes -> the same, with `run`, the functions of its module, and where the program is there
   `float`: what it stands for. */
export async function started(pack) {
  const module = await import(`data:text/javascript;base64,${pack.script}`);
  return { ...pack, run: await module.load(bytesOf(pack.wasm)), float: pack.program ? unrounded(pack.program) : null };
}

/* The scores and flags of all rows that complete a window, by row; NaN before. A gap begins anew. */
export function detected(model, { counts, starts }) {
  const width = model.channels.length, n = starts.length;
  const scores = new Float64Array(n).fill(NaN), flags = new Uint8Array(n);
  for (let i = 0, state; i < n; i++) {
    const first = i - model.length + 1;
    if (first < starts[i]) {
      state = -1n;
      continue;
    }
    const found = model.run.detect(counts.subarray(first * width, (i + 1) * width), state);
    [scores[i], flags[i], state] = [found.score, found.faulty, found.state];
  }
  return { scores, flags };
}

/* SHA-256 of what a model makes of the windows that ship: {digest, outputs, seconds}. It gives way to others every few
   milliseconds. */
export async function proof(model, recording) {
  const width = model.channels.length, size = model.context * width;
  const stride = recording ? width : size;
  const counts = recording ? int16(recording.rows) : walks(model.windows, model.context);
  const outputs = [];
  let spent = 0;
  for (let i = 0; i < model.windows; ) {
    const began = performance.now();
    while (i < model.windows && performance.now() - began < 12) {
      outputs.push(model.run.forecast(counts.subarray(i * stride, i * stride + size)));
      i++;
    }
    spent += performance.now() - began;
    await new Promise((resolve) => setTimeout(resolve));
  }
  const length = outputs[0].length, bytes = new Uint8Array(2 * length * outputs.length), view = new DataView(bytes.buffer);
  outputs.forEach((output, i) => output.forEach((x, j) => view.setInt16(2 * (i * length + j), x, true)));
  return { digest: sha256(bytes), outputs: length * outputs.length, seconds: spent / 1000 };
}
