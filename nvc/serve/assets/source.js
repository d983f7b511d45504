"use strict";
// Where pictures and figures come from: a running server, or the files of an exported page.
//
// A scene is what is received: {layers, rate, loss, burst, seed, protect}. A track is a video the
// page can show: {kind: "nvc" | "blend" | "reference" | "x265", scene, part}; "blend" is what the
// codec makes between frames, `part` of layout.blends on the way from each frame to the next.

nvc.scene = (() => {
  const FIELDS = ["layers", "rate", "loss", "burst", "seed", "protect"];
  function settled(scene, layout) {
    const made = { ...scene, layers: Math.min(scene.layers, layout.layers) };
    return made.loss ? made : { ...made, burst: 1, seed: 0, protect: 0 };
  }
  function query(scene) {
    return FIELDS.map((name) => `${name}=${scene[name]}`).join("&");
  }
  return { FIELDS, settled, query };
})();

nvc.trackKey = (track) => {
  if (track.kind === "nvc") return `nvc?${nvc.scene.query(track.scene)}`;
  if (track.kind === "blend") return `blend?${nvc.scene.query(track.scene)}&part=${track.part}`;
  return track.kind === "x265" ? `x265?layers=${track.scene.layers}` : track.kind;
};

nvc.LiveSource = class {
  constructor() {
    this.exported = false;
  }

  async stream() {
    this.layout = await this.json("api/stream");
    return this.layout;
  }

  async states(scene, signal) {
    return (await this.json(`api/scene?${nvc.scene.query(scene)}`, signal)).states;
  }

  async x265(scene) {
    return this.json(`api/x265?layers=${scene.layers}`);
  }

  async tensors(group) {
    return (await this.json(`api/tensors/${group}`)).tensors;
  }

  // A picture as {bitmap, psnr}; psnr is null where there is nothing to compare with.
  async picture(track, number, signal) {
    const [kind, query = ""] = nvc.trackKey(track).split("?");
    if (kind === "blend") number = number * this.layout.blends + track.part;
    const answer = await this.ask(`picture/${this.layout.version}/${kind}/${number}.png?${query}`, signal);
    const scores = JSON.parse(answer.headers.get("X-Psnr") || "{}");
    const bitmap = await createImageBitmap(await answer.blob());
    return { bitmap, psnr: scores.psnr_yuv ?? scores.psnr_y ?? null };
  }

  // The scene nearest to the one asked for that can be had; here every one can.
  nearest(scene) {
    return scene;
  }

  async json(path, signal) {
    return (await this.ask(path, signal)).json();
  }

  async ask(path, signal) {
    let answer;
    try {
      answer = await fetch(path, { signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The server does not answer. Is nvc serve still running?");
    }
    if (answer.ok) return answer;
    let words = `the server failed (${answer.status})`;
    if (answer.headers.get("Content-Type")?.includes("json")) words = (await answer.json()).error;
    throw new Error(words);
  }
};

nvc.ExportedSource = class {
  constructor(data) {
    this.data = data;
    this.exported = true;
    this.scenes = new Map(data.scenes.map((entry) => [nvc.scene.query(entry.scene), entry]));
  }

  async stream() {
    this.layout = this.data.stream;
    return this.layout;
  }

  async states(scene) {
    return this.scenes.get(nvc.scene.query(scene)).states;
  }

  async x265(scene) {
    return this.data.x265[scene.layers] ?? { state: "failed", error: "x265 is not part of this page" };
  }

  async tensors(group) {
    return this.data.tensors[group] ?? [];
  }

  async picture(track, number) {
    let folder = "reference";
    let scores = null;
    if (track.kind === "nvc") {
      const entry = this.scenes.get(nvc.scene.query(track.scene));
      folder = entry.folder;
      scores = entry.psnr;
    } else if (track.kind === "x265") {
      folder = `x265_${track.scene.layers}`;
      scores = this.data.x265[track.scene.layers].psnr;
    }
    const image = new Image();
    image.src = `pictures/${folder}/${String(number).padStart(5, "0")}.webp`;
    try {
      await image.decode();
    } catch {
      throw new Error(`The picture of frame ${number} is missing beside this page.`);
    }
    return { bitmap: image, psnr: scores?.[number] ?? null };
  }

  // Only some scenes were exported: keep what was just changed, then be near in the rest.
  nearest(scene, changed) {
    const weight = { layers: 100, rate: 1, loss: 2, burst: 5, seed: 0, protect: 0.5 };
    const distance = (other) =>
      nvc.scene.FIELDS.reduce((sum, name) => {
        const factor = name === changed ? 1e4 : weight[name];
        return sum + factor * Math.abs(other[name] - scene[name]);
      }, 0);
    const all = [...this.scenes.values()].map((entry) => entry.scene);
    return all.reduce((best, other) => (distance(other) < distance(best) ? other : best));
  }
};
