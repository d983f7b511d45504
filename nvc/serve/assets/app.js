"use strict";
// Puts the page together: what is received, what is shown, keys, theme, the address.

nvc.App = class {
  constructor(source) {
    this.source = source;
    this.compare = "none";
    this.part = 0; // of the way to the next frame, where the codec makes frames between frames
    this.x265 = null;
    this.find = (name) => document.getElementById(name);
    this.theme(localStorageGet("nvc-theme"));
    this.find("theme").addEventListener("click", () => this.nextTheme());
    this.find("help").addEventListener("click", () => this.find("keys").showModal());
  }

  async start() {
    this.find("picture").closest("main").setAttribute("aria-busy", "true");
    try {
      this.layout = await this.source.stream();
    } catch (error) {
      this.fail(error.message);
      return;
    }
    const { layout } = this;
    this.head();
    this.figures = new nvc.Figures(layout);
    this.stage = new nvc.Stage(layout);
    this.timeline = new nvc.Timeline(layout, this.figures);
    this.shares = new nvc.Shares(layout, this.figures, this.source);
    this.player = new nvc.Player(this.source, layout, {
      onShow: (frame, pictures) => this.show(frame, pictures),
      onState: () => this.state(),
      waits: (track, number) => this.waits(track, number),
      likely: () => this.otherLayers(),
    });
    this.controls = new nvc.Controls(this.source, layout, this.figures, {
      onScene: () => {
        this.arriving = false;
        this.receive();
      },
      onCompare: (kind) => this.beside(kind),
      onBlend: (part) => {
        this.part = part;
        this.player.set(this.tracks());
      },
    });
    this.wire();
    const still = this.readAddress();
    await this.receive();
    if (this.compare !== "none") this.beside(this.compare);
    const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (!still && !calm) this.player.play(true);
  }

  fail(words) {
    const banner = this.find("banner");
    banner.textContent = words;
    banner.hidden = false;
    for (const name of ["transport", "timeline", "figures", "panel", "bytes"]) {
      for (const part of document.getElementsByClassName(name)) part.hidden = true;
    }
    const veil = this.find("veil");
    veil.textContent = "There is no picture to show.";
    veil.classList.add("whole");
    veil.hidden = false;
    document.title = "nvc";
  }

  head() {
    const { layout } = this;
    document.title = `${layout.name} – nvc`;
    this.find("name").textContent = layout.name;
    const rate = Number(layout.rate.toFixed(2));
    const parts = [`${layout.width} × ${layout.height}`, `${rate} fps`, nvc.format.plural(layout.frames, "frame"),
      nvc.format.bytes(layout.bytes), layout.codec];
    this.find("facts").textContent = parts.join("  ·  ");
    const problems = [];
    if (layout.damage) problems.push(`This file is damaged: ${layout.damage}. What is sound is shown.`);
    if (layout.reference_problem) problems.push(`There is no comparison: ${layout.reference_problem}`);
    if (layout.left_out) problems.push(`The page shows the first ${layout.frames} frames; ${layout.left_out} more are in the file.`);
    this.find("banner").textContent = problems.join(" ");
    this.find("banner").hidden = !problems.length;
    const how = layout.reference
      ? "PSNR is (6 Y + U + V) / 8 of a frame against the original, on the planes the decoder gives. "
      : "";
    const kept = this.source.exported
      ? `Pictures are stored with this page as WebP of quality ${this.source.data.quality}; figures were taken before that.`
      : "Pictures come from the decoder as PNG, without loss.";
    this.find("how").textContent = `Every picture is decoded from the units that arrive, and from nothing else. ${how}${kept} Rates count every byte received, the container’s too.`;
  }

  wire() {
    const { player } = this;
    this.find("play").addEventListener("click", () => player.play(!player.playing));
    this.find("back").addEventListener("click", () => this.step(-1));
    this.find("forth").addEventListener("click", () => this.step(1));
    this.find("seek").addEventListener("input", (event) => {
      player.seek(Number(event.target.value));
    });
    this.find("sharp").addEventListener("click", () => this.sharp());
    this.find("arrive").addEventListener("click", () => this.arrive());
    document.addEventListener("keydown", (event) => nvc.pressed(this, event));
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.timeline.refresh());
  }

  // What is to be received has changed: learn what arrives of it, then show it.
  async receive() {
    const { scene } = this.controls;
    this.since = performance.now();
    this.asking?.abort();
    const asking = new AbortController();
    this.asking = asking;
    this.busy = true;
    if (scene.rate === 100 && !scene.loss) {
      // Something of every frame is sure to arrive: ask for the picture at once.
      this.figures.states = null;
      this.player.set(this.tracks());
    }
    try {
      this.figures.receive(await this.source.states(scene, asking.signal));
    } catch (error) {
      if (error.name === "AbortError") return;
      this.stage.say(error.message, true);
      this.busy = false;
      return;
    }
    if (this.asking !== asking) return;
    this.controls.describe();
    this.curves();
    this.shares.refresh(this.player.frame);
    this.numbers();
    if (this.compare === "x265") this.askX265();
    this.player.set(this.tracks());
    this.writeAddress();
    this.busy = false;
  }

  // Hold the key frame and let the bytes come, from few to all of them.
  async arrive() {
    const { player, layout, controls } = this;
    const rest = (time) => new Promise((resolve) => setTimeout(resolve, time));
    this.arriving = !this.arriving;
    if (!this.arriving) return;
    player.play(false);
    player.seek(layout.keys.filter((key) => key <= player.frame).pop() ?? 0);
    this.find("arrive").setAttribute("aria-pressed", "true");
    const steps = this.source.exported ? [10, 25, 50, 75, 100] : [1, 3, 6, 10, 14, 18, 23, 28, 34, 41, 49, 58, 68, 79, 90, 100];
    for (const rate of steps) {
      controls.set({ ...controls.scene, rate, layers: layout.layers }, "rate");
      await this.receive();
      while (this.arriving && player.pending) await rest(30);
      if (!this.arriving) break;
      await rest(220);
    }
    this.arriving = false;
    this.find("arrive").setAttribute("aria-pressed", "false");
  }

  tracks() {
    const { scene } = this.controls;
    const tracks = [this.part ? { kind: "blend", scene, part: this.part } : { kind: "nvc", scene }];
    if (this.compare === "reference") tracks.push({ kind: "reference", scene });
    if (this.compare === "x265" && this.x265?.state === "ready" && this.x265.layers === scene.layers) {
      tracks.push({ kind: "x265", scene });
    }
    return tracks;
  }

  otherLayers() {
    const { scene } = this.controls;
    if (scene.rate < 100 || scene.loss || this.part) return [];
    const others = Array.from({ length: this.layout.layers }, (none, place) => place + 1);
    return others.map((layers) => ({ kind: "nvc", scene: { ...scene, layers } }));
  }

  curves() {
    const { scene } = this.controls;
    const lines = [];
    if (this.layout.reference) lines.push({ key: nvc.trackKey({ kind: "nvc", scene }), name: "nvc", colour: "s1" });
    if (this.compare === "x265") lines.push({ key: nvc.trackKey({ kind: "x265", scene }), name: "x265", colour: "other" });
    this.timeline.set(lines);
  }

  beside(kind) {
    this.compare = kind;
    const note = this.find("compare-note");
    note.textContent = {
      none: this.layout.reference ? "" : "Start with --reference ORIGINAL to compare.",
      reference: "Left as received, right the original. Drag the line.",
      x265: "",
    }[kind];
    if (kind === "x265") this.askX265();
    this.curves();
    this.player.set(this.tracks());
    this.writeAddress();
  }

  async askX265() {
    const { scene } = this.controls;
    if (this.x265?.state === "ready" && this.x265.layers === scene.layers) {
      this.describeX265();
      return;
    }
    clearTimeout(this.polling);
    const note = this.find("compare-note");
    let found;
    try {
      found = await this.source.x265(scene);
    } catch (error) {
      note.textContent = error.message;
      return;
    }
    if (this.compare !== "x265" || scene.layers !== this.controls.scene.layers) return;
    this.x265 = found;
    this.describeX265();
    if (found.state === "encoding") {
      this.polling = setTimeout(() => this.askX265(), 400);
    } else if (found.state === "ready") {
      this.curves();
      this.player.set(this.tracks());
    }
  }

  describeX265() {
    const found = this.x265;
    const note = this.find("compare-note");
    if (found.state === "failed") note.textContent = found.error;
    else if (found.state === "encoding") {
      note.textContent = `x265 is looking for ${nvc.format.bytes(found.target)}: encode ${Math.max(found.encodes, 1)} of about 9.`;
    } else {
      note.textContent = `Right: ${found.preset.replace("-", " ")}, crf ${found.crf}, ${nvc.format.bytes(found.bytes)} ` +
        `where these scales are ${nvc.format.bytes(found.target)}. Key frames as far apart, nothing lost.`;
    }
  }

  // Frames of a group that has not arrived are waited for, not concealed.
  waits(track, number) {
    if (!["nvc", "blend"].includes(track.kind) || !this.figures.states) return false;
    if (!this.figures.shows(number)) return true;
    return !this.layout.layered && Boolean(this.figures.unsent[number]);
  }

  awaited(frame) {
    const { packets, layered } = this.layout;
    const number = packets.findIndex(([start, count]) => frame >= start && frame < start + count);
    if (layered || number < 0) return `Nothing has arrived yet that frame ${frame + 1} could be made of.`;
    return `Group ${number + 1} of ${packets.length} has not arrived: ${nvc.format.bytes(packets[number][3])} to go.`;
  }

  show(frame, pictures) {
    const [main, other] = pictures;
    if (this.since !== undefined) {
      // How long a viewer waited; from the click on a link for the first picture.
      const first = !performance.getEntriesByName("first picture").length;
      performance.measure(first ? "first picture" : "switch", { start: first ? 0 : this.since });
      this.since = undefined;
    }
    if (main.bitmap) {
      this.stage.show(main.bitmap, other?.bitmap ?? null);
      this.stage.say(other?.problem ?? null);
    } else if (main.waiting) {
      this.stage.show(this.stage.left, null);
      this.stage.say(this.awaited(frame), true);
    } else {
      this.stage.say(main.problem, true);
    }
    const keys = this.player.tracks.map(nvc.trackKey);
    let fresh = false;
    pictures.forEach((picture, place) => {
      if (picture.bitmap) fresh = this.figures.record(keys[place], frame, picture.psnr) || fresh;
    });
    if (fresh) this.timeline.refresh();
    this.timeline.at(frame);
    if (!this.layout.layered && this.figures.states) this.shares.refresh(frame);
    this.numbers();
    this.state();
    this.find("picture").closest("main").setAttribute("aria-busy", "false");
  }

  state() {
    const { player, layout } = this;
    const play = this.find("play");
    play.setAttribute("aria-pressed", String(player.playing));
    play.setAttribute("aria-label", player.playing ? "Pause" : "Play");
    this.find("place").textContent = `${player.frame + 1} / ${layout.frames}   ${nvc.format.seconds(player.frame / layout.rate)}`;
    const pace = player.pace();
    let words = "";
    if (player.late) words = "decoding …";
    else if (player.playing && pace && pace < 0.93 * layout.rate) words = `${pace.toFixed(0)} of ${Math.round(layout.rate)} fps`;
    this.find("pace").textContent = words;
  }

  numbers() {
    const { figures, player, controls } = this;
    if (!figures.states) return;
    const key = nvc.trackKey({ kind: "nvc", scene: controls.scene });
    const now = figures.psnr.get(key)?.[player.frame];
    const [mean, count] = figures.meanPsnr(key);
    const [live, unit] = nvc.format.rate(figures.liveRate(player.frame));
    const [whole, wholeUnit] = nvc.format.rate(figures.meanRate());
    const rows = [];
    if (this.layout.reference) {
      rows.push(["PSNR, this frame", Number.isFinite(now) ? now.toFixed(2) : "–", "dB"]);
      const seen = count && count < this.layout.frames ? `dB of ${count} seen` : "dB";
      rows.push(["PSNR, mean", count ? mean.toFixed(2) : "–", seen]);
    }
    rows.push(["last second", live, unit]);
    rows.push(["whole clip", whole, wholeUnit]);
    rows.push(["bits a pixel", figures.liveBpp(player.frame).toFixed(3), `${figures.meanBpp().toFixed(3)} mean`]);
    rows.push(["received", nvc.format.bytes(figures.all), nvc.format.share(figures.all, this.layout.bytes)]);
    const made = rows.map(([name, value, after]) =>
      nvc.element("div", {}, nvc.element("dt", {}, name), nvc.element("dd", {}, value, nvc.element("small", {}, after))));
    this.find("figures").replaceChildren(...made);
    const names = { none: null, reference: "original", x265: "x265" };
    const psnr = Number.isFinite(now) ? `  ${now.toFixed(1)} dB` : "";
    const other = this.player.tracks[1];
    let right = other ? names[other.kind] : null;
    if (other?.kind === "x265") {
      const theirs = figures.psnr.get(nvc.trackKey(other))?.[player.frame];
      if (Number.isFinite(theirs)) right += `  ${theirs.toFixed(1)} dB`;
    }
    this.stage.label(`nvc${psnr}`, right);
  }

  step(by) {
    this.player.play(false);
    const { frames } = this.layout;
    this.player.seek((this.player.frame + by + frames) % frames);
  }

  sharp() {
    const on = this.find("plate").classList.toggle("sharp");
    this.find("sharp").setAttribute("aria-pressed", String(on));
  }

  theme(name) {
    const root = document.documentElement;
    if (name === "light" || name === "dark") root.dataset.theme = name;
    else delete root.dataset.theme;
    this.find("theme").textContent = `Theme: ${root.dataset.theme ?? "auto"}`;
    this.timeline?.refresh();
  }

  nextTheme() {
    const order = [undefined, "light", "dark"];
    const next = order[(order.indexOf(document.documentElement.dataset.theme) + 1) % 3];
    localStorageSet("nvc-theme", next ?? "");
    this.theme(next);
  }

  // A view as an address: #layers=2&loss=10&frame=12&still
  readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    const limits = { layers: [1, this.layout.layers], rate: [1, 100], loss: [0, 50], burst: [1, 16], seed: [0, 9999], protect: [0, 1] };
    const scene = { ...this.controls.scene, seed: 1 };
    for (const [name, [low, high]] of Object.entries(limits)) {
      const value = given.has(name) ? Number(given.get(name)) : NaN;
      if (Number.isInteger(value)) scene[name] = Math.min(Math.max(value, low), high);
    }
    this.controls.set(scene);
    const frame = Number(given.get("frame") ?? 0);
    if (Number.isInteger(frame)) this.player.seek(frame);
    const kind = given.get("compare");
    if (kind && this.controls.choose(kind)) this.compare = kind;
    return given.has("still") || given.has("frame");
  }

  writeAddress() {
    const { scene } = this.controls;
    const parts = [];
    if (scene.layers !== this.layout.layers) parts.push(`layers=${scene.layers}`);
    if (scene.rate !== 100) parts.push(`rate=${scene.rate}`);
    if (scene.loss) parts.push(`loss=${scene.loss}`, `burst=${scene.burst}`, `seed=${scene.seed}`, `protect=${scene.protect}`);
    if (this.compare !== "none") parts.push(`compare=${this.compare}`);
    history.replaceState(null, "", parts.length ? `#${parts.join("&")}` : location.pathname + location.search);
  }
};

// Storage may be forbidden; the theme is then forgotten.
function localStorageGet(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function localStorageSet(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // nothing depends on it
  }
}

nvc.app = new nvc.App(window.NVC_EXPORT ? new nvc.ExportedSource(window.NVC_EXPORT) : new nvc.LiveSource());
nvc.app.start();
