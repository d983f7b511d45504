"use strict";
// Bytes and PSNR of what is received, from the units' sizes and what became of each.

nvc.Figures = class {
  constructor(layout) {
    this.layout = layout;
    this.pixels = layout.width * layout.height;
    this.psnr = new Map(); // track key -> dB by frame, NaN where it is not known yet
  }

  // states: a letter for every packet; sums the bytes that arrived, frame by frame and by layer.
  receive(states) {
    const { frames, packets, layers } = this.layout;
    this.states = states;
    this.arrived = Array.from({ length: layers }, () => new Float64Array(frames));
    this.missing = Array.from({ length: layers }, () => new Float64Array(frames));
    this.lost = new Uint32Array(frames); // a bit for every layer
    this.unsent = new Uint8Array(frames);
    this.received = 0;
    this.last = -1; // frame of the last unit that arrived
    this.counts = { a: 0, u: 0, l: 0, d: 0 };
    packets.forEach(([start, count, layer, bytes], number) => {
      const state = states[number];
      this.counts[state] += 1;
      const into = state === "a" ? this.arrived : this.missing;
      for (let frame = start; frame < start + count; frame += 1) {
        into[layer][frame] += bytes / count;
        if (state === "l" || state === "d") this.lost[frame] |= 1 << layer;
        if (state === "u") this.unsent[frame] = 1;
      }
      if (state !== "a") return;
      this.received += bytes;
      this.last = Math.max(this.last, start);
    });
    this.total = packets.reduce((sum, packet) => sum + packet[3], 0);
    this.container = this.layout.bytes - this.total;
    this.all = this.received + this.container;
  }

  // Whether anything arrived that a decoder could show a frame of; it conceals what is missing.
  shows(frame) {
    const gop = this.layout.keys.findLastIndex((key) => key <= frame);
    return this.last >= this.layout.keys[Math.max(gop - this.layout.lead, 0)];
  }

  frameBytes(frame) {
    return this.arrived.reduce((sum, row) => sum + row[frame], 0);
  }

  // Bits a second over the second that ends with a frame; over the first second during it.
  liveRate(frame) {
    const span = Math.min(Math.max(1, Math.round(this.layout.rate)), this.layout.frames);
    const first = Math.max(0, frame - span + 1);
    let bytes = 0;
    for (let number = first; number < first + span; number += 1) bytes += this.frameBytes(number);
    return (8 * bytes * this.layout.rate) / span;
  }

  // Bits a pixel over the same second.
  liveBpp(frame) {
    return this.liveRate(frame) / (this.layout.rate * this.pixels);
  }

  // Of everything that is received, the container's own bytes counted.
  meanBpp() {
    return (8 * this.all) / (this.pixels * this.layout.frames);
  }

  meanRate() {
    return (8 * this.all * this.layout.rate) / this.layout.frames;
  }

  record(key, frame, value) {
    if (value === null || value === undefined) return false;
    if (!this.psnr.has(key)) {
      this.psnr.set(key, new Float32Array(this.layout.frames).fill(NaN));
      if (this.psnr.size > 24) this.psnr.delete(this.psnr.keys().next().value);
    }
    const row = this.psnr.get(key);
    if (row[frame] === Math.fround(value)) return false;
    row[frame] = value;
    return true;
  }

  // Mean over the frames seen so far, and how many these are.
  meanPsnr(key) {
    const row = this.psnr.get(key);
    if (!row) return [NaN, 0];
    let sum = 0;
    let count = 0;
    for (const value of row) {
      if (!Number.isNaN(value)) {
        sum += value;
        count += 1;
      }
    }
    return [sum / count, count];
  }
};
