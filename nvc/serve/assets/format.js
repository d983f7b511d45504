"use strict";
// Numbers and colours as the page writes them.
const nvc = {};

nvc.format = (() => {
  function bytes(count) {
    if (count < 1000) return `${Math.round(count)} B`;
    if (count < 1e6) return `${(count / 1000).toFixed(count < 1e4 ? 2 : 1)} kB`;
    return `${(count / 1e6).toFixed(2)} MB`;
  }
  function rate(bitsPerSecond) {
    const kilo = bitsPerSecond / 1000;
    return kilo < 1000 ? [kilo.toFixed(kilo < 100 ? 1 : 0), "kbit/s"] : [(kilo / 1000).toFixed(2), "Mbit/s"];
  }
  function share(part, whole) {
    if (!whole) return "–";
    const percent = (100 * part) / whole;
    return `${percent > 0 && percent < 9.95 ? percent.toFixed(1) : Math.round(percent)} %`;
  }
  function seconds(value) {
    const whole = Math.floor(value);
    const rest = Math.floor((value - whole) * 100 + 1e-6);
    return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}.${String(rest).padStart(2, "0")}`;
  }
  function plural(count, word) {
    return `${count} ${word}${count === 1 ? "" : "s"}`;
  }
  // The value a colour of the style sheet has now; canvases know no variables.
  function colour(name) {
    const probe = document.createElement("i");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  }
  return { bytes, rate, share, seconds, plural, colour };
})();

nvc.element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (key.startsWith("--")) made.style.setProperty(key, value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
};
