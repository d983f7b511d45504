"use strict";
// Frames from left to right: PSNR above, bytes by scale below, what is missing marked.

nvc.Timeline = (() => {
const GUTTER = 48; // pixels at the left for the numbers of the scales; as in page.css

function short(bytes) {
  if (bytes < 1000) return `${Math.round(bytes)} B`;
  return bytes < 1e6 ? `${(bytes / 1000).toFixed(bytes < 1e4 ? 1 : 0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

return class {
  constructor(layout, figures) {
    this.layout = layout;
    this.figures = figures;
    this.canvas = document.getElementById("plot");
    this.head = document.getElementById("playhead");
    this.seek = document.getElementById("seek");
    this.legend = document.getElementById("legend");
    this.seek.max = String(layout.frames - 1);
    this.lines = [];
    this.groups = new Uint32Array(layout.frames); // of an INR file: number of each frame's group
    layout.packets.forEach(([start, count], number) => this.groups.fill(number, start, start + count));
    this.frame = 0;
    this.due = false;
    new ResizeObserver(() => this.refresh()).observe(this.canvas);
  }

  // lines: [{key, name, colour}] of the PSNR curves.
  set(lines) {
    this.lines = lines;
    this.describe();
    this.refresh();
  }

  refresh() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      this.draw();
    });
  }

  at(frame) {
    this.frame = frame;
    this.seek.value = String(frame);
    this.seek.setAttribute("aria-valuetext", `frame ${frame + 1} of ${this.layout.frames}`);
    const width = this.canvas.clientWidth - GUTTER;
    this.head.style.left = `${GUTTER + ((frame + 0.5) / this.layout.frames) * width}px`;
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !this.figures.states) return;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.translate(GUTTER, 0);
    context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const curves = this.lines.filter((line) => this.figures.psnr.has(line.key));
    const top = curves.length || this.lines.length ? Math.round(height * 0.52) : 0;
    this.drawBackground(context, width, height, ratio, top + 14);
    if (top) this.drawCurves(context, width - GUTTER, top, curves);
    this.at(this.frame);
  }

  // The bytes change with what is received only, the curves with every frame that is seen.
  drawBackground(context, width, height, ratio, top) {
    const look = [width, height, ratio, top, nvc.format.colour("s0")].join();
    if (this.look !== look || this.drawn !== this.figures.states) {
      this.background = document.createElement("canvas");
      this.background.width = this.canvas.width;
      this.background.height = this.canvas.height;
      const pen = this.background.getContext("2d");
      pen.scale(ratio, ratio);
      pen.translate(GUTTER, 0);
      pen.font = context.font;
      this.drawBytes(pen, width - GUTTER, top, height);
      this.look = look;
      this.drawn = this.figures.states;
    }
    context.drawImage(this.background, -GUTTER, 0, width, height);
  }

  drawBytes(context, width, top, bottom) {
    const { layout, figures } = this;
    const step = width / layout.frames;
    const gap = step > 4 ? 1 : 0;
    const tones = ["s0", "s1", "s2", "s3"].map(nvc.format.colour);
    const hatch = this.hatch(context);
    const held = nvc.format.colour("well");
    let peak = 1;
    const sums = new Float64Array(layout.frames);
    for (let frame = 0; frame < layout.frames; frame += 1) {
      for (let layer = 0; layer < layout.layers; layer += 1) {
        sums[frame] += figures.arrived[layer][frame] + figures.missing[layer][frame];
      }
      peak = Math.max(peak, sums[frame]);
    }
    // The root keeps inter frames visible beside intra frames ten times their size.
    const scale = (bottom - top) / Math.sqrt(peak);
    for (let frame = 0; frame < layout.frames; frame += 1) {
      const whole = Math.sqrt(sums[frame]) * scale;
      let base = bottom;
      for (let layer = 0; layer < layout.layers; layer += 1) {
        const here = figures.arrived[layer][frame];
        const gone = figures.missing[layer][frame];
        const lost = figures.lost[frame] & (1 << layer);
        const tone = tones[layout.layered ? Math.min(layer, 3) : this.groups[frame] % 2];
        for (const [part, fill] of [[here, tone], [gone, lost ? hatch : held]]) {
          const tall = sums[frame] ? (whole * part) / sums[frame] : 0;
          context.fillStyle = fill;
          context.fillRect(frame * step, base - tall, Math.max(step - gap, 0.5), tall);
          base -= tall;
        }
      }
    }
    context.fillStyle = nvc.format.colour("soft");
    context.strokeStyle = nvc.format.colour("line");
    context.textAlign = "right";
    for (const part of [1, 0.25]) {
      const y = Math.round(bottom - Math.sqrt(part * peak) * scale) + 0.5;
      context.fillText(short(part * peak), -7, y + 4);
      context.beginPath();
      context.moveTo(-4, y);
      context.lineTo(0, y);
      context.stroke();
    }
  }

  drawCurves(context, width, bottom, curves) {
    const { layout } = this;
    let least = Infinity;
    let most = -Infinity;
    for (const line of curves) {
      for (const value of this.figures.psnr.get(line.key)) {
        if (value < least) least = value;
        if (value > most) most = value;
      }
    }
    const soft = nvc.format.colour("soft");
    context.fillStyle = soft;
    context.textAlign = "right";
    if (least > most) return;
    let low = Math.floor(least - 0.5);
    let high = Math.ceil(most + 0.5);
    const stride = Math.max(1, Math.ceil((high - low) / 3));
    low = Math.floor(low / stride) * stride;
    high = Math.ceil(high / stride) * stride;
    const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - 10);
    context.strokeStyle = nvc.format.colour("line");
    context.lineWidth = 1;
    for (let value = low; value <= high; value += stride) {
      context.beginPath();
      context.moveTo(0, Math.round(y(value)) + 0.5);
      context.lineTo(width, Math.round(y(value)) + 0.5);
      context.stroke();
      context.fillText(value === high ? `${value} dB` : String(value), -7, y(value) + 4);
    }
    const step = width / layout.frames;
    for (const line of curves) {
      const row = this.figures.psnr.get(line.key);
      context.strokeStyle = nvc.format.colour(line.colour);
      context.lineWidth = 1.75;
      context.lineJoin = "round";
      context.beginPath();
      let drawn = false;
      for (let frame = 0; frame < row.length; frame += 1) {
        if (Number.isNaN(row[frame])) {
          drawn = false;
          continue;
        }
        const x = (frame + 0.5) * step;
        if (drawn) context.lineTo(x, y(row[frame]));
        else {
          context.moveTo(x - 0.4 * step, y(row[frame]));
          context.lineTo(x, y(row[frame]));
        }
        drawn = true;
      }
      context.stroke();
    }
  }

  hatch(context) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 6;
    const pen = tile.getContext("2d");
    pen.strokeStyle = nvc.format.colour("lost");
    pen.lineWidth = 1.6;
    for (const shift of [-6, 0, 6]) {
      pen.beginPath();
      pen.moveTo(shift - 1, 7);
      pen.lineTo(shift + 7, -1);
      pen.stroke();
    }
    return context.createPattern(tile, "repeat");
  }

  describe() {
    const make = nvc.element;
    const parts = this.lines.map((line) =>
      make("span", { class: "line", "--swatch": `var(--${line.colour})` }, `PSNR ${line.name}`));
    const names = this.layout.strides.length ? this.layout.strides.map((s) => `scale ${s}`) : ["bytes a frame"];
    names.forEach((name, layer) => {
      parts.push(make("span", { "--swatch": `var(--s${Math.min(layer, 3)})` }, name));
    });
    parts.push(make("span", { "--swatch": "var(--well)" }, "not sent"));
    parts.push(make("span", { class: "hatch" }, "lost"));
    parts.push(make("span", { class: "aside" }, "bytes a frame, root scale"));
    this.legend.replaceChildren(...parts);
  }
};
})();
