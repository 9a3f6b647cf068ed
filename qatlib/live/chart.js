/* A window of samples as SVG: what went in, what came out, and a handle on one sample that is moved by pointer or by
   keys. */
const SVG = "http://www.w3.org/2000/svg";
const EDGE = { left: 56, right: 16, top: 22, bottom: 26 };
const STEPS = [1, 2, 4, 8, 12, 24, 48, 60, 96, 120, 240];

function draw(parent, name, attributes, text = "") {
  const made = parent.appendChild(document.createElementNS(SVG, name));
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

/* edited: called with [[sample, value], ..] when the handle is moved; say: (samples before the last, value) -> words
   for one. Without them nothing can be moved. */
export class Chart {
  constructor(svg, edited = null, say = null) {
    Object.assign(this, { svg, edited, say, chosen: Infinity, dragging: false, range: [0, 1] });
    this.picture = draw(svg, "g", { "aria-hidden": "true" });
    new ResizeObserver(() => this.data && this.draw(this.data)).observe(svg);
    if (!edited) return;
    this.handle = draw(svg, "circle", { r: 7, tabindex: 0, role: "slider", class: "handle",
      "aria-label": "Sample to move: left and right choose it, up and down move it" });
    svg.addEventListener("pointerdown", (event) => this.grab(event));
    svg.addEventListener("pointermove", (event) => this.dragging && this.drag(event));
    for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, () => this.drop());
    this.handle.addEventListener("keydown", (event) => this.key(event));
  }

  /* data: {past: numbers, lines: [{kind, from, values}], limit, marked: [{kind, at: samples}], length, unit, step} */
  draw(data) {
    this.data = data;
    this.chosen = Math.min(this.chosen, data.past.length - 1);
    this.width = this.svg.clientWidth || 640;
    this.height = this.svg.clientHeight || 260;
    if (!this.dragging) this.range = rangeOf(data);
    this.picture.replaceChildren();
    for (const { kind, at } of data.marked ?? []) for (const i of at) this.band(kind, i);
    this.axes(data);
    this.line("past", 0, data.past);
    for (const { kind, from, values } of data.lines ?? []) this.line(kind, from, values);
    if (data.limit !== undefined) {
      const y = this.y(data.limit);
      draw(this.picture, "line", { x1: EDGE.left, x2: this.width - EDGE.right, y1: y, y2: y, class: "limit" });
    }
    if (this.handle) this.place();
  }

  x(i) {
    const across = this.width - EDGE.left - EDGE.right;
    return EDGE.left + (across * i) / Math.max(1, this.data.length - 1);
  }

  y(value) {
    const [low, high] = this.range, bottom = this.height - EDGE.bottom;
    return bottom - ((bottom - EDGE.top) * (value - low)) / (high - low);
  }

  line(kind, from, values) {
    if (!values.length) return;
    const points = Array.from(values, (v, i) => `${this.x(from + i).toFixed(1)},${this.y(v).toFixed(1)}`);
    draw(this.picture, "polyline", { points: points.join(" "), class: kind });
    if (values.length === 1) draw(this.picture, "circle", { cx: this.x(from), cy: this.y(values[0]), r: 4, class: kind });
  }

  /* Bands lie above each other at the foot: a kind each. */
  band(kind, i) {
    const width = this.x(1) - this.x(0), y = this.height - EDGE.bottom - (kind === "true" ? 8 : 16);
    draw(this.picture, "rect", { x: this.x(i) - width / 2, y, width, height: 7, class: kind });
  }

  axes({ past, length, unit, step }) {
    const [low, high] = this.range, spacing = nice((high - low) / 4), bottom = this.height - EDGE.bottom;
    for (let k = Math.ceil(low / spacing); k * spacing <= high; k++) {
      const y = this.y(k * spacing), digits = Math.max(0, -Math.floor(Math.log10(spacing) + 1e-9));
      draw(this.picture, "line", { x1: EDGE.left, x2: this.width - EDGE.right, y1: y, y2: y, class: "grid" });
      const value = k * spacing || 0, shape = { maximumFractionDigits: digits };
      const text = digits > 4 ? value.toExponential(1) : value.toLocaleString("en-GB", shape);
      draw(this.picture, "text", { x: EDGE.left - 6, y: y + 4, "text-anchor": "end" }, text.replace("-", "−"));
    }
    const now = past.length - 1, room = (this.width / 64) | 0;
    const every = STEPS.find((s) => length / s <= room) ?? 480;
    for (let i = now % every; i < length; i += every) {
      const label = i === now ? "now" : `${i < now ? "−" : "+"}${Math.abs(i - now)}`;
      draw(this.picture, "text", { x: this.x(i), y: bottom + 17, "text-anchor": "middle" }, label);
    }
    draw(this.picture, "text", { x: EDGE.left, y: EDGE.top - 9 }, `${unit}, by ${step}`);
    draw(this.picture, "line", { x1: this.x(now), x2: this.x(now), y1: EDGE.top + 4, y2: bottom, class: "now" });
  }

  place() {
    const value = this.data.past[this.chosen], [low, high] = this.range;
    const facts = { cx: this.x(this.chosen), cy: this.y(value), "aria-valuemin": low, "aria-valuemax": high,
      "aria-valuenow": value, "aria-valuetext": this.say(this.data.past.length - 1 - this.chosen, value) };
    for (const [key, fact] of Object.entries(facts)) this.handle.setAttribute(key, fact);
  }

  grab(event) {
    if (event.button) return;
    this.svg.setPointerCapture(event.pointerId);
    this.dragging = true;
    this.last = null;
    this.drag(event);
    this.handle.focus({ preventScroll: true });
    event.preventDefault();
  }

  /* Every sample that the pointer has passed since the last time gets its height. */
  drag(event) {
    const box = this.svg.getBoundingClientRect(), bottom = this.height - EDGE.bottom, [low, high] = this.range;
    const across = (event.clientX - box.left - EDGE.left) / (this.width - EDGE.left - EDGE.right);
    const up = (bottom - (event.clientY - box.top)) / (bottom - EDGE.top);
    const i = Math.max(0, Math.min(this.data.past.length - 1, Math.round(across * (this.data.length - 1))));
    const value = low + (high - low) * Math.max(0, Math.min(1, up)), before = this.last ?? [i, value];
    const moved = [], passed = Math.abs(i - before[0]);
    for (let k = 1; k < passed; k++) {
      moved.push([before[0] + k * Math.sign(i - before[0]), before[1] + ((value - before[1]) * k) / passed]);
    }
    this.last = [i, value];
    this.chosen = i;
    this.edited([...moved, this.last]);
  }

  drop() {
    if (!this.dragging) return;
    this.dragging = false;
    this.draw(this.data);
  }

  key(event) {
    const [low, high] = this.range, last = this.data.past.length - 1, step = (high - low) / 100;
    const across = { ArrowLeft: this.chosen - 1, ArrowRight: this.chosen + 1, Home: 0, End: last }[event.key];
    const up = { ArrowUp: step, ArrowDown: -step, PageUp: 10 * step, PageDown: -10 * step }[event.key];
    if (across === undefined && up === undefined) return;
    event.preventDefault();
    if (across !== undefined) {
      this.chosen = Math.max(0, Math.min(last, across));
      this.place();
    } else {
      this.edited([[this.chosen, this.data.past[this.chosen] + up]]);
    }
  }
}

function rangeOf({ past, lines = [], limit }) {
  const values = [...past, ...lines.flatMap((line) => [...line.values]), ...(limit === undefined ? [] : [limit])];
  const low = Math.min(...values), high = Math.max(...values), room = 0.08 * (high - low) || 1;
  return [low - room, high + room];
}

/* 1, 2 or 5 times a power of ten, at least x */
function nice(x) {
  const power = 10 ** Math.floor(Math.log10(x));
  return [1, 2, 5, 10].find((k) => k * power >= x * 0.999) * power;
}
