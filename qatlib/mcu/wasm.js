/* The integer model in the .wasm beside this file, for browsers and Node:

     const model = await load(await (await fetch("forecaster.wasm")).arrayBuffer());
     const next = model.forecast(counts);

   Counts are Int16Array, oldest first, the channels of a sample side by side; so is what comes back. */
export const CONTEXT = 0; // samples that a forecast takes
export const CHANNELS = 0; // counts of each
export const HORIZON = 0; // steps of a forecast, or labels
export const TARGETS = 0; // counts of each step
export const ROWS = 0; // samples that a detector takes; the last is judged
const SMOOTHING = 0;

/* bytes: of the .wasm, ArrayBuffer or Uint8Array -> functions of the model. classify: of a classifier; detect: of a
   detector. TypeError, RangeError where counts are none of this model. */
export async function load(bytes) {
  const { run, classify, detect, ...at } = (await WebAssembly.instantiate(bytes)).instance.exports;
  const { buffer } = at.memory; // it never grows
  const counts = new Int16Array(buffer, at.counts.value, ROWS * CHANNELS);
  const result = new Int16Array(buffer, at.forecast.value, HORIZON * TARGETS);

  function take(given, rows) {
    if (!(given instanceof Int16Array)) throw new TypeError("counts are no Int16Array");
    const wanted = rows * CHANNELS;
    if (given.length !== wanted) {
      throw new RangeError(`${given.length} counts; this model takes ${wanted}: ${rows} samples of ${CHANNELS} channels`);
    }
    counts.set(given);
  }

  const model = {
    /* CONTEXT * CHANNELS counts -> HORIZON * TARGETS */
    forecast(given) {
      take(given, CONTEXT);
      run();
      return result.slice();
    },
  };
  if (classify) {
    /* CONTEXT * CHANNELS counts -> the label with the highest score, from 0, and all scores */
    model.classify = (given) => {
      take(given, CONTEXT);
      return { label: classify(), scores: result.slice() };
    };
  }
  if (detect) {
    const state = new BigInt64Array(buffer, at.state.value, 1);
    /* ROWS * CHANNELS counts, each time a sample later, and the state of the time before, -1n at first -> whether the
       last sample is faulty, its score, and the state to go on with */
    model.detect = (given, before = -1n) => {
      take(given, ROWS);
      state[0] = before;
      const faulty = detect() === 1;
      return { faulty, score: Number(state[0] >> BigInt(SMOOTHING)), state: state[0] };
    };
  }
  return model;
}
