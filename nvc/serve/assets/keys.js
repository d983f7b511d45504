"use strict";
// What keys do; the same list is in the dialog of index.html.

nvc.pressed = (app, event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || app.find("keys").open) return;
  const inSlider = event.target.matches?.("input[type=range], input[type=radio]");
  const arrows = event.key.startsWith("Arrow") || ["Home", "End", "PageUp", "PageDown"].includes(event.key);
  if (inSlider && arrows) return;
  if (event.key === " " && event.target.matches?.("button, input[type=checkbox], input[type=radio]")) return;
  const { player, controls, layout } = app;
  const keyFrame = (by) => {
    const later = layout.keys.find((key) => key > player.frame) ?? 0;
    const earlier = layout.keys.filter((key) => key < player.frame).pop() ?? layout.keys[layout.keys.length - 1];
    player.play(false);
    player.seek(by > 0 ? later : earlier);
  };
  const slide = (by) => {
    const split = app.find("split");
    split.value = String(Number(split.value) + by);
    app.stage.draw();
  };
  const actions = {
    " ": () => player.play(!player.playing),
    k: () => player.play(!player.playing),
    ArrowLeft: () => (event.shiftKey ? keyFrame(-1) : app.step(-1)),
    ArrowRight: () => (event.shiftKey ? keyFrame(1) : app.step(1)),
    Home: () => player.seek(0),
    End: () => player.seek(layout.frames - 1),
    "[": () => controls.step("rate", -5),
    "]": () => controls.step("rate", 5),
    a: () => app.arrive(),
    "-": () => controls.step("loss", -1),
    "+": () => controls.step("loss", 1),
    "=": () => controls.step("loss", 1),
    b: () => controls.scene.loss && controls.toggleBurst(),
    n: () => controls.scene.loss && !app.source.exported && controls.draw(),
    c: () => controls.nextCompare(),
    ",": () => slide(-40),
    ".": () => slide(40),
    p: () => app.sharp(),
    t: () => app.nextTheme(),
    "?": () => app.find("keys").showModal(),
  };
  let action = actions[event.key];
  if (/^[1-9]$/.test(event.key) && Number(event.key) <= layout.layers && layout.layers > 1) {
    action = () => {
      controls.inputs.layers.value = event.key;
      controls.changed("layers");
    };
  }
  if (!action) return;
  event.preventDefault();
  action();
};
