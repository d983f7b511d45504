"use strict";
// Where the bytes go: a bar and the same as a table.

nvc.Shares = class {
  constructor(layout, figures, source) {
    this.layout = layout;
    this.figures = figures;
    this.source = source;
    this.bar = document.getElementById("bar");
    this.table = document.getElementById("shares");
    this.note = document.getElementById("bytes-note");
    this.tensors = new Map();
    this.group = -1;
  }

  refresh(frame) {
    if (this.layout.layered) this.layers();
    else this.groups(frame);
  }

  layers() {
    const { layout, figures } = this;
    const rows = Array.from({ length: layout.layers }, () => ({ intra: [0, 0, 0], inter: [0, 0, 0] }));
    const heads = new Set(layout.heads);
    let packed = 0;
    layout.packets.forEach(([start, , layer, bytes, , together], number) => {
      const place = { a: 0, u: 1 }[figures.states[number]] ?? 2;
      rows[layer][heads.has(start) ? "intra" : "inter"][place] += bytes;
      packed += together;
    });
    const pieces = [];
    rows.forEach((row, layer) => {
      for (const kind of ["intra", "inter"]) {
        const tone = `var(--s${Math.min(layer, 3)})`;
        const faded = kind === "intra" ? tone : `color-mix(in oklab, ${tone} 72%, var(--card))`;
        pieces.push({ size: row[kind][0], fill: faded, title: `${this.name(layer)}, ${kind}: ${nvc.format.bytes(row[kind][0])}` });
        pieces.push({ size: row[kind][1], kind: "held", title: `${this.name(layer)}, ${kind}, not sent: ${nvc.format.bytes(row[kind][1])}` });
        pieces.push({ size: row[kind][2], kind: "missing", title: `${this.name(layer)}, ${kind}, lost: ${nvc.format.bytes(row[kind][2])}` });
      }
    });
    pieces.push({ size: figures.container, fill: "var(--rest)", title: `container: ${nvc.format.bytes(figures.container)}` });
    this.paint(pieces);
    const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
    const body = rows.map((row, layer) => {
      const all = sum(row.intra) + sum(row.inter);
      return {
        name: this.name(layer), swatch: `var(--s${Math.min(layer, 3)})`,
        cells: [nvc.format.bytes(sum(row.intra)), nvc.format.bytes(sum(row.inter)), nvc.format.share(all, layout.bytes),
          this.dash(row.intra[1] + row.inter[1]), this.dash(row.intra[2] + row.inter[2])],
      };
    });
    body.push({ name: layout.audio ? "container, sound" : "container", swatch: "var(--rest)",
      cells: [nvc.format.bytes(figures.container), "", nvc.format.share(figures.container, layout.bytes), "", ""] });
    const heads = ["", "intra", "inter", "of the file", "not sent", "lost"];
    // Columns of things that did not happen only take room.
    const shown = heads.map((head, place) => place < 4 || body.some((row) => !["", "–"].includes(row.cells[place - 1])));
    for (const row of body) row.cells = row.cells.filter((cell, place) => shown[place + 1]);
    this.rows(heads.filter((head, place) => shown[place]), body);
    this.note.textContent = packed
      ? `${packed} of ${nvc.format.plural(layout.frames, "frame")} hold all scales in one small unit, counted as the coarsest; encoded with --no-pack each scale is a unit of its own.`
      : "In the bar the full colours are intra frames, the muted ones inter frames.";
  }

  name(layer) {
    const stride = this.layout.strides[layer];
    return stride ? `scale ${stride}` : `layer ${layer + 1}`;
  }

  dash(bytes) {
    return bytes ? nvc.format.bytes(bytes) : "–";
  }

  groups(frame) {
    const { layout, figures } = this;
    const groups = layout.packets.map(([start, count, , bytes], number) => ({ start, count, bytes, state: figures.states[number] }));
    const pieces = groups.map((group, number) => ({
      size: group.bytes,
      fill: number % 2 ? "var(--s1)" : "var(--s0)",
      kind: { u: "held", l: "missing", d: "missing" }[group.state],
      title: `group ${number + 1}, frames ${group.start + 1} to ${group.start + group.count}: ${nvc.format.bytes(group.bytes)}`,
    }));
    pieces.push({ size: figures.container, fill: "var(--rest)", title: `container: ${nvc.format.bytes(figures.container)}` });
    this.paint(pieces);
    const here = groups.findIndex((group) => frame >= group.start && frame < group.start + group.count);
    if (here !== this.group) {
      this.group = here;
      this.showTensors(here, groups[here]);
    }
  }

  async showTensors(number, group) {
    if (!group) return;
    if (!this.tensors.has(number)) {
      try {
        this.tensors.set(number, await this.source.tensors(number));
      } catch (error) {
        this.note.textContent = error.message;
        this.rows([], []);
        return;
      }
    }
    if (number !== this.group) return;
    const tensors = this.tensors.get(number);
    const values = tensors.reduce((sum, tensor) => sum + tensor.values, 0);
    const body = tensors.map((tensor) => ({
      name: tensor.name,
      swatch: tensor.values ? "var(--s0)" : "var(--s2)",
      cells: [tensor.shape.join(" × "), tensor.values ? tensor.values.toLocaleString("en") : "", nvc.format.bytes(tensor.bytes),
        tensor.values ? ((8 * tensor.bytes) / tensor.values).toFixed(2) : "", nvc.format.share(tensor.bytes, group.bytes)],
    }));
    this.rows(["", "shape", "values", "bytes", "bits a value", "of the group"], body);
    this.note.textContent =
      `Group ${number + 1} of ${this.layout.packets.length}: a network of ${values.toLocaleString("en")} weights, ` +
      `${nvc.format.bytes(group.bytes)} with the codes of its frames, draws frames ${group.start + 1} to ${group.start + group.count}.`;
  }

  paint(pieces) {
    this.bar.replaceChildren(
      ...pieces.filter((piece) => piece.size > 0).map((piece) => {
        const made = nvc.element("div", { title: piece.title, class: piece.kind ?? "" });
        made.style.flexGrow = String(piece.size);
        made.style.flexBasis = "0";
        if (piece.fill) made.style.background = piece.fill;
        return made;
      }));
  }

  rows(heads, body) {
    const make = nvc.element;
    const head = make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text))));
    const rows = body.map((row) =>
      make("tr", {},
        make("th", { scope: "row" }, make("span", { class: "swatch", "--swatch": row.swatch }), row.name),
        ...row.cells.map((text, place) => {
          const gone = heads[place + 1] === "lost" && text && text !== "–";
          return make("td", gone ? { class: "gone" } : {}, text);
        })));
    this.table.replaceChildren(head, make("tbody", {}, ...rows));
  }
};
