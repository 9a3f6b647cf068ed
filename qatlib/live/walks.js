/* The windows of models whose data may not be passed on: walks from a seed, as NumPy's RandomState draws them. */
class Twister {
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const before = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(before, 1812433253) + i;
    }
    this.at = 624;
  }

  next() {
    const s = this.state;
    if (this.at === 624) {
      for (let i = 0; i < 624; i++) {
        const y = (s[i] & 0x80000000) | (s[(i + 1) % 624] & 0x7fffffff);
        s[i] = s[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.at = 0;
    }
    let y = s[this.at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /* An integer from low to high. */
  between(low, high) {
    const span = high - low, mask = 2 ** (32 - Math.clz32(span)) - 1;
    let drawn;
    do drawn = (this.next() & mask) >>> 0;
    while (drawn > span);
    return low + drawn;
  }
}

/* -> Int16Array (windows * context) */
export function walks(windows, context) {
  const random = new Twister(0), steps = new Int32Array(windows * context), counts = new Int16Array(steps.length);
  for (let i = 0; i < steps.length; i++) {
    const reach = 1 << Math.floor(i / context) % 13;
    steps[i] = (random.between(-4096, 4096) * reach) >> 12;
  }
  for (let i = 0; i < windows; i++) steps[i * context] = random.between(-32768, 32767);
  for (let i = 0; i < windows; i++) {
    let sum = 0; // it may leave 16 bits, and come back
    for (let j = i * context; j < (i + 1) * context; j++) {
      sum += steps[j];
      counts[j] = Math.max(-32768, Math.min(32767, sum));
    }
  }
  return counts;
}
