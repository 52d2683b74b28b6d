// What the panels share. Each script below gives its `render` to `panel`.

// A saved notebook has nothing to show of a widget's output. So a panel's output is an element of the class `place`, and
// in each of these the panel is drawn as long as its kernel lives; what stood there comes back after that. Where there
// is no such element the widget's own view is drawn.
const panel = (render) => ({
  render,
  initialize({ model }) {
    const name = model.get("place");
    if (!name) return undefined;
    const places = document.getElementsByClassName(name); // keeps up with the page by itself
    const drawn = new Map();
    const draw = () => {
      for (const place of [...places]) {
        if (drawn.has(place)) continue;
        const before = [...place.childNodes];
        const el = document.createElement("div");
        place.replaceChildren(el);
        const end = render({ model, el });
        drawn.set(place, () => {
          end?.();
          place.replaceChildren(...before);
        });
      }
    };
    const changes = new MutationObserver(draw);
    const leave = () => {
      changes.disconnect();
      model.off("comm_live_update", leave);
      for (const end of drawn.values()) end();
      drawn.clear();
    };
    model.on("comm_live_update", leave); // after a restart of the kernel; the comm was alive from the beginning
    changes.observe(document.body, { childList: true, subtree: true });
    draw();
    return leave;
  },
});
