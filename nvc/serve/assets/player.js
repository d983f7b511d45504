"use strict";
// Plays tracks side by side: fetches pictures ahead, keeps some, shows them in time.

nvc.Player = class {
  // onShow(frame, pictures) when pictures of all tracks are there; onState() when anything changes;
  // waits(track, frame) where there is no picture to ask for; likely() are tracks that a viewer who
  // has stopped may switch to.
  constructor(source, layout, { onShow, onState, waits, likely }) {
    Object.assign(this, { source, layout, onShow, onState, waits, likely });
    this.frame = 0;
    this.playing = false;
    this.tracks = [];
    this.kept = new Map(); // "key/number" -> picture, oldest first
    this.asked = new Map(); // "key/number" -> AbortController
    this.limit = Math.max(8, Math.floor((160 << 20) / (4 * layout.width * layout.height)));
    this.due = 0;
    this.shown = [];
    requestAnimationFrame((now) => this.tick(now));
  }

  // Tracks to show; what is on its way for others is given up.
  set(tracks) {
    this.tracks = tracks;
    const keys = new Set(tracks.map(nvc.trackKey));
    for (const [place, controller] of this.asked) {
      if (!keys.has(place.slice(0, place.lastIndexOf("/")))) {
        controller.abort();
        this.asked.delete(place);
      }
    }
    this.pending = true;
    this.fill();
  }

  seek(frame) {
    this.frame = Math.min(Math.max(frame, 0), this.layout.frames - 1);
    const wanted = new Set(this.places(this.frame, this.ahead()));
    for (const [place, controller] of this.asked) {
      if (!wanted.has(place)) {
        controller.abort();
        this.asked.delete(place);
      }
    }
    this.pending = true;
    this.fill();
    this.onState();
  }

  play(on) {
    this.playing = on;
    this.due = 0;
    this.fill();
    this.onState();
  }

  ahead() {
    return this.playing ? Math.min(12, Math.floor(this.limit / 3), this.layout.frames - 1) : 1;
  }

  places(frame, count) {
    const places = [];
    for (let step = 0; step <= count; step += 1) {
      const number = (frame + step) % this.layout.frames;
      for (const track of this.tracks) places.push(`${nvc.trackKey(track)}/${number}`);
    }
    return places;
  }

  fill() {
    const most = 5; // a browser opens six connections to a server, one stays for questions
    for (let step = 0; step <= this.ahead(); step += 1) {
      const number = (this.frame + step) % this.layout.frames;
      for (const track of this.tracks) {
        const place = `${nvc.trackKey(track)}/${number}`;
        if (this.kept.has(place) || this.asked.has(place) || this.waits(track, number)) continue;
        if (this.asked.size >= most) return;
        this.ask(track, number, place);
      }
    }
    if (this.playing || this.pending || this.asked.size) return;
    for (const track of this.likely()) {
      const place = `${nvc.trackKey(track)}/${this.frame}`;
      if (!this.kept.has(place)) {
        this.ask(track, this.frame, place);
        return;
      }
    }
  }

  async ask(track, number, place) {
    const controller = new AbortController();
    this.asked.set(place, controller);
    try {
      const picture = await this.source.picture(track, number, controller.signal);
      this.keep(place, picture);
    } catch (error) {
      if (error.name !== "AbortError") this.keep(place, { problem: error.message });
    } finally {
      if (this.asked.get(place) === controller) this.asked.delete(place);
    }
    if (!controller.signal.aborted) this.fill();
  }

  keep(place, picture) {
    this.kept.set(place, picture);
    while (this.kept.size > this.limit) this.kept.delete(this.kept.keys().next().value);
  }

  // Forget what failed, so that it is asked for again.
  retry() {
    for (const [place, picture] of this.kept) if (picture.problem) this.kept.delete(place);
    this.pending = true;
    this.fill();
  }

  pictures(number) {
    return this.tracks.map((track) => {
      if (this.waits(track, number)) return { waiting: true };
      const place = `${nvc.trackKey(track)}/${number}`;
      const picture = this.kept.get(place);
      if (picture) {
        this.kept.delete(place); // used last
        this.kept.set(place, picture);
      }
      return picture;
    });
  }

  tick(now) {
    requestAnimationFrame((then) => this.tick(then));
    if (!this.tracks.length) return;
    const interval = 1000 / this.layout.rate;
    const moves = this.playing && !this.pending && this.layout.frames > 1;
    if (moves && this.due && now < this.due - 2) return;
    if (!moves && !this.pending) return;
    const next = moves ? (this.frame + 1) % this.layout.frames : this.frame;
    const pictures = this.pictures(next);
    this.late = pictures.includes(undefined);
    if (this.late) {
      this.since ??= now;
      if (now - this.since > 150) this.onState();
      this.fill();
      return;
    }
    const stalled = this.since !== undefined;
    this.since = undefined;
    this.frame = next;
    this.pending = false;
    this.due = this.due && !stalled && now - this.due < interval ? this.due + interval : now + interval;
    this.shown.push(now);
    while (this.shown.length && this.shown[0] < now - 1500) this.shown.shift();
    this.onShow(next, pictures);
    this.fill();
  }

  // Frames a second shown of late.
  pace() {
    if (this.shown.length < 2) return 0;
    return (1000 * (this.shown.length - 1)) / (this.shown[this.shown.length - 1] - this.shown[0]);
  }
};
