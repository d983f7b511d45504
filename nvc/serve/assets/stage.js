"use strict";
// The picture: one video, or two split by a line that can be moved.

nvc.Stage = class {
  constructor(layout) {
    this.canvas = document.getElementById("picture");
    this.plate = document.getElementById("plate");
    this.divider = document.getElementById("divider");
    this.slider = document.getElementById("split");
    this.veil = document.getElementById("veil");
    this.tags = [document.getElementById("tag-left"), document.getElementById("tag-right")];
    this.canvas.width = layout.width;
    this.canvas.height = layout.height;
    this.canvas.style.aspectRatio = String(layout.aspect);
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.left = this.right = null;
    this.slider.addEventListener("input", () => this.draw());
    window.addEventListener("resize", () => this.draw());
  }

  get split() {
    return Number(this.slider.value) / 1000;
  }

  // right: null for one picture alone.
  show(left, right) {
    this.left = left;
    this.right = right;
    this.draw();
  }

  draw() {
    const { width, height } = this.canvas;
    const two = this.right !== null;
    this.slider.hidden = this.divider.hidden = !two;
    if (!this.left) return;
    this.context.drawImage(this.left, 0, 0, width, height);
    if (!two) return;
    const edge = Math.round(this.split * width);
    if (edge < width) {
      this.context.drawImage(this.right, edge, 0, width - edge, height, edge, 0, width - edge, height);
    }
    // The canvas may be narrower than its plate.
    const box = this.shownBox();
    this.divider.style.left = `${box.left + this.split * box.width}px`;
    for (const side of ["left", "width"]) this.slider.style[side] = `${box[side]}px`;
  }

  shownBox() {
    const outer = this.plate.getBoundingClientRect();
    const inner = this.canvas.getBoundingClientRect();
    const aspect = parseFloat(this.canvas.style.aspectRatio);
    const width = Math.min(inner.width, inner.height * aspect);
    return { left: inner.left - outer.left + (inner.width - width) / 2, width };
  }

  label(left, right) {
    this.tags[0].textContent = left;
    this.tags[1].textContent = right ?? "";
    this.tags[1].hidden = !right;
  }

  // Words over the picture: a line at its foot, or all over where there is no picture.
  say(words, whole = false) {
    this.veil.hidden = !words;
    this.veil.textContent = words ?? "";
    this.veil.classList.toggle("whole", whole);
  }
};
