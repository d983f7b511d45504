"use strict";
// The sliders: what is received, in words beside each.

nvc.Controls = class {
  // onScene(scene) when something else is to be received; onCompare(kind) for what is beside it.
  constructor(source, layout, figures, { onScene, onCompare, onBlend }) {
    Object.assign(this, { source, layout, figures, onScene, onCompare, onBlend });
    const find = (name) => document.getElementById(name);
    this.inputs = { layers: find("layers"), rate: find("rate"), loss: find("loss"), protect: find("protect") };
    this.bursts = [...document.querySelectorAll("input[name=burst]")];
    this.compares = [...document.querySelectorAll("input[name=compare]")];
    this.seed = 1;
    this.scene = { layers: layout.layers, rate: 100, loss: 0, burst: 1, seed: 0, protect: 0 };
    this.prepare();
    for (const name of ["layers", "rate", "loss", "protect"]) {
      this.inputs[name].addEventListener("input", () => this.changed(name));
    }
    this.bursts.forEach((input) => input.addEventListener("change", () => this.changed("burst")));
    this.compares.forEach((input) => input.addEventListener("change", () => this.onCompare(input.value)));
    find("draw").addEventListener("click", () => this.draw());
    find("blend").addEventListener("input", () => this.blended());
  }

  prepare() {
    const { layout } = this;
    const { layers, loss } = this.inputs;
    layers.max = String(layout.layers);
    document.getElementById("layers-control").hidden = layout.layers < 2;
    const stops = layout.strides.map((stride) => nvc.element("span", {}, String(stride)));
    document.getElementById("layers-stops").replaceChildren(...stops);
    document.getElementById("protect-row").hidden = layout.layers < 2 || this.source.exported;
    document.getElementById("draw").hidden = this.source.exported;
    document.getElementById("blend-control").hidden = layout.blends < 2;
    document.getElementById("blend").max = String(layout.blends - 1);
    document.getElementById("blend-out").textContent = "as coded";
    if (!layout.layered) {
      document.getElementById("rate-note").textContent = "Groups come in turn, each the network of its frames.";
      document.getElementById("loss-label").textContent = "Groups lost";
      loss.max = "50";
    }
    for (const [kind, there] of [["reference", layout.reference], ["x265", layout.x265 ?? layout.reference]]) {
      this.compares.find((input) => input.value === kind).disabled = !there;
    }
  }

  blended() {
    const input = document.getElementById("blend");
    const part = Number(input.value);
    const words = part ? `${part} / ${this.layout.blends} on to the next` : "as coded";
    document.getElementById("blend-out").textContent = words;
    input.setAttribute("aria-valuetext", words);
    input.style.setProperty("--at", String(part / (this.layout.blends - 1 || 1)));
    this.onBlend(part);
  }

  changed(name) {
    const { layers, rate, loss, protect } = this.inputs;
    const burst = this.bursts.find((input) => input.checked).value;
    const scene = {
      layers: Number(layers.value), rate: Number(rate.value), loss: Number(loss.value),
      burst: Number(burst), seed: this.seed, protect: Number(protect.checked),
    };
    this.set(scene, name);
    this.onScene(this.scene);
  }

  draw() {
    this.seed = 1 + (this.seed % 9999);
    this.changed("seed");
  }

  // Takes over a scene, as near as it can be had, and shows it.
  set(scene, changed = "layers") {
    if (scene.loss && scene.seed) this.seed = scene.seed;
    this.scene = this.source.nearest(nvc.scene.settled(scene, this.layout), changed);
    const { layers, rate, loss, protect } = this.inputs;
    layers.value = String(this.scene.layers);
    rate.value = String(this.scene.rate);
    loss.value = String(this.scene.loss);
    if (this.scene.loss) {
      protect.checked = Boolean(this.scene.protect);
      this.bursts.forEach((input) => { input.checked = (Number(input.value) > 1) === this.scene.burst > 1; });
    }
    document.getElementById("loss-kinds").hidden = !this.scene.loss;
    document.getElementById("protect-row").hidden = !this.scene.loss || this.layout.layers < 2 || this.source.exported;
    [...document.getElementById("layers-stops").children].forEach((stop, place) => {
      stop.classList.toggle("on", place < this.scene.layers);
    });
    for (const input of [layers, rate, loss]) {
      const span = Number(input.max) - Number(input.min) || 1;
      input.style.setProperty("--at", String((Number(input.value) - Number(input.min)) / span));
    }
  }

  // Words beside the sliders, once it is known what arrives.
  describe() {
    const { layout, figures, scene } = this;
    const say = (name, words) => {
      document.getElementById(`${name}-out`).textContent = words;
      this.inputs[name].setAttribute("aria-valuetext", words);
    };
    const shown = layout.strides.slice(0, scene.layers);
    say("layers", shown.length ? shown.join(" + ") : `${scene.layers} of ${layout.layers}`);
    if (layout.layered) {
      const budget = (layout.peak_rate * scene.rate) / 100;
      say("rate", scene.rate === 100 ? "all of them" : `${nvc.format.bytes(budget)}/s`);
    } else {
      const here = figures.counts.a + figures.counts.l;
      say("rate", `${here} of ${nvc.format.plural(layout.packets.length, "group")}`);
    }
    say("loss", scene.loss ? `${scene.loss} %` : "none");
    const sent = figures.counts.a + figures.counts.l;
    const unit = layout.layered ? "unit" : "group";
    const words = scene.loss
      ? `Draw ${scene.seed}: ${figures.counts.l} of ${nvc.format.plural(sent, unit)} lost before the decoder.`
      : `A ${unit} that is lost never reaches the decoder${layout.layered ? ", which conceals it." : "; the last picture before it stays."}`;
    document.getElementById("loss-note").textContent = words;
  }

  step(name, by) {
    const input = this.inputs[name];
    input.value = String(Number(input.value) + by);
    this.changed(name);
  }

  toggleBurst() {
    const other = this.bursts.find((input) => !input.checked);
    other.checked = true;
    this.changed("burst");
  }

  choose(kind) {
    const input = this.compares.find((each) => each.value === kind);
    if (!input || input.disabled) return false;
    input.checked = true;
    return true;
  }

  nextCompare() {
    const open = this.compares.filter((input) => !input.disabled);
    const place = open.findIndex((input) => input.checked);
    const next = open[(place + 1) % open.length];
    next.checked = true;
    this.onCompare(next.value);
  }
};
